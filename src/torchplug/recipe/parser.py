"""The command line of all recipes: LightningCLI's parser, with components by their names."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import jsonargparse
from jsonargparse import _typehints as jsonargparse_typehints
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser
from yaml import YAMLError  # type: ignore[import-untyped]

from torchplug.component import Family, Spec
from torchplug.data.tabular import TabularData
from torchplug.execution import Engine, StepsPerExecution
from torchplug.fitting.trainer import NOT_SETTABLE
from torchplug.recipe import components
from torchplug.recipe.adaptation import TableSummary
from torchplug.recipe.parser_limits import bounded_yaml
from torchplug.resolved_config import SpecLike
from torchplug.terminal import printable
from torchplug.tracking.settings import Tracking
from torchplug.value_types import lenient_values

SUBCOMMANDS = {
    "fit": "Train on the training part and report on the validation part.",
    "validate": "Evaluate a checkpoint on the validation part.",
    "test": "Evaluate a checkpoint on the test part; every opening of it is recorded.",
    "predict": "Write a checkpoint's predictions for a table.",
}
ENVIRONMENT_PREFIX = "TORCHPLUG"
_SLOTS = {
    "model": Family.MODEL,
    "loss": Family.LOSS,
    "optimizer": Family.OPTIMIZER,
    "scheduler": Family.SCHEDULER,
}
_LISTS = {"regularizers": Family.REGULARIZER, "metrics": Family.METRIC}
_WAYS: dict[str, tuple[Any, Any]] = {
    "reduction": (Literal["mean", "sum"], "mean"),
    "engine": (Engine, "auto"),
    "steps_per_execution": (StepsPerExecution, "auto"),
    "sync_every": (int | None, None),
}
_DESCRIPTION = "Components go by their names: `torchplug list` shows them, --model.optimizer.help adam explains one."
_CONFIG_FILE = jsonargparse.ActionConfigFile  # type: ignore[attr-defined]
_PARSER_MODE = "torchplug"
_OF_PREDICT = {"output", "id"}
"""Settings that only predict has."""


@dataclass(frozen=True)
class Settings:
    """What a recipe sets: the defaults of its command line.

    Args:
        model: a component for each slot (model, loss, optimizer, regularizers, scheduler, metrics).
        data: parameters of TabularData.
        trainer: parameters of lightning's Trainer.
        tracking: parameters of Tracking.
        seed: what all random generators are seeded with.
        adapt: rules for defaults that follow from the table of a new fit: settings by group (model, data, trainer),
            which come before those above, and which files, variables and flags override.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    trainer: Mapping[str, Any] = field(default_factory=dict)
    tracking: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    adapt: Callable[[TableSummary], Mapping[str, Mapping[str, Any]]] | None = None


class RecipeParser(LightningArgumentParser):
    """LightningCLI's parser, showing components by name and raising its errors."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        settings.setdefault("description", None)
        settings.setdefault("allow_abbrev", False)
        super().__init__(*arguments, **settings)
        self.exit_on_error = False
        self.commands: dict[str, RecipeParser] = {}

    @property
    def flags(self) -> list[str]:
        """Every flag of this parser."""
        return [flag for action in self._actions for flag in action.option_strings]

    def add_class_arguments(self, theclass: type, *arguments: Any, **settings: Any) -> Any:
        """Add a class's parameters; a component is imported here, when it has been named."""
        components.read_signature(theclass)
        return super().add_class_arguments(theclass, *arguments, **settings)

    def dump(self, *arguments: Any, **settings: Any) -> str:
        """The configuration as text, components by name."""
        return components.shown(super().dump(*arguments, **settings))

    def format_help(self, *arguments: Any) -> str:
        """The help as text, components by name."""
        text = components.shown(super().format_help(*arguments))
        text = text.replace("[CLASS_PATH_OR_NAME]", "[NAME]").replace("known subclasses:", "known:")
        return printable(text, lines=True)


def build(program: str, settings: Settings, commands: Sequence[str] = tuple(SUBCOMMANDS)) -> RecipeParser:
    """The parser of a recipe, its settings as defaults.

    Args:
        program: the name that help and errors show.
        settings: the defaults.
        commands: the subcommands that it has.
    """
    jsonargparse.set_loader(_PARSER_MODE, load_yaml, exceptions=(YAMLError,))
    # Configuration can name our components and Lightning's classes, and nothing else: any other
    # path is refused before it is imported.
    jsonargparse.set_parsing_settings(
        import_path_denylist=["*"], import_path_allowlist=["lightning", *components.modules()]
    )
    common: dict[str, Any] = {
        "default_env": True,
        "env_prefix": ENVIRONMENT_PREFIX,
        "parser_mode": _PARSER_MODE,
    }
    parser = RecipeParser(prog=program, description=_DESCRIPTION, **common)
    parser.add_argument("-c", "--config", action=_CONFIG_FILE, help="Configuration file, YAML or JSON.")
    subcommands = parser.add_subcommands()
    for name in commands:
        parser.commands[name] = _subcommand(name, SUBCOMMANDS[name], settings, common)
        subcommands.add_subcommand(name, parser.commands[name], help=SUBCOMMANDS[name])
    return parser


def known_settings(parser: RecipeParser) -> dict[str, set[str]]:
    """The settings that each subcommand takes, such as `trainer.max_epochs`, whether or not it was built."""
    actions = [action for command in parser.commands.values() for action in command._actions if action.option_strings]
    shared = {action.dest for action in actions} - _OF_PREDICT
    return {name: shared | (_OF_PREDICT if name == "predict" else set()) for name in SUBCOMMANDS}


def _subcommand(name: str, summary: str, settings: Settings, common: Mapping[str, Any]) -> RecipeParser:
    parser = RecipeParser(description=summary, **common)
    parser.add_argument("-c", "--config", action=_CONFIG_FILE, help="Configuration file, YAML or JSON.")
    parser.add_argument("--seed_everything", type=int, default=settings.seed, help="Seed of all generators.")
    _add_model(parser, settings.model)
    parser.add_class_arguments(TabularData, "data", fail_untyped=False, instantiate=False)
    parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, skip=set(NOT_SETTABLE))
    parser.add_class_arguments(Tracking, "tracking", fail_untyped=False, instantiate=False)
    # What Lightning's sanity check would find is checked before any rank starts.
    parser.set_defaults({"trainer.num_sanity_val_steps": 0, "trainer.enable_model_summary": False})
    for group in ("data", "trainer", "tracking"):
        parser.set_defaults({f"{group}.{key}": value for key, value in getattr(settings, group).items()})
    resumes = name == "fit"
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None if resumes else "best",
        help=f"{'Resume from' if resumes else 'Use'} best or last of the newest run, a run directory, or a file.",
    )
    if name == "predict":
        parser.add_argument(
            "--output",
            type=str | None,
            default=None,
            help="File to write, .csv or .parquet; its column `row` counts the input's rows from 1.",
        )
        parser.add_argument("--id", type=str | None, default=None, help="Column of the input to repeat in the output.")
    return parser


def _add_model(parser: RecipeParser, model: Mapping[str, Any]) -> None:
    """Add `--model.*`: a component for each slot, and the ways in which they are put to work."""
    parameters = [_slot(name, family, model.get(name)) for name, family in _SLOTS.items()]
    parameters += [_several(name, family, model.get(name)) for name, family in _LISTS.items()]
    parameters += [_parameter(name, kind, model.get(name, default)) for name, (kind, default) in _WAYS.items()]

    def module(**settings: Any) -> None:
        """Components of the module, by name

        Args:
            model: the network.
            loss: what is minimized.
            optimizer: how parameters are updated.
            scheduler: how the learning rate changes.
            regularizers: penalties; += adds one.
            metrics: metrics beside those of the loss's kind; += adds one.
            reduction: mean or sum of the samples' losses.
            engine: how gradients of minibatches are computed: analytic, autograd or compiled; auto chooses.
            steps_per_execution: optimizer steps per step of Lightning's; same results; auto: as many as possible.
            sync_every: let ranks step alone and average parameters after so many steps; another algorithm.
        """

    module.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    parser.add_function_arguments(module, "model")


def _slot(name: str, family: Family, value: Any) -> inspect.Parameter:
    kind: Any = components.choices(family)
    return _parameter(name, kind | None if name == "scheduler" else kind, _default(family, value))


def _several(name: str, family: Family, values: Sequence[SpecLike] | None) -> inspect.Parameter:
    kind: Any = components.choices(family)
    return _parameter(name, list[kind], [_default(family, value) for value in values or ()])


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _default(family: Family, value: SpecLike | None) -> dict[str, Any] | None:
    return None if value is None else components.class_spec(family, Spec.of(value))


def read(parser: RecipeParser, arguments: Sequence[str]) -> jsonargparse.Namespace:
    """Parse: the recipe's settings, then configuration files, then the environment, then flags.

    Raises:
        argparse.ArgumentError: for anything that is refused.
    """
    with _fresh_parameters(), _hidden_environment(), bounded_yaml(), lenient_values(none_is_null=True):
        return parser.parse_args([components.hidden(argument) for argument in arguments])


def load_yaml(text: str) -> Any:
    """A configuration's content, components in the form that the parser takes."""
    loader: Callable[[str], Any] = jsonargparse.get_loader("yaml")
    with bounded_yaml():
        return loader(components.hidden(text))


@contextmanager
def _fresh_parameters() -> Iterator[None]:
    """Naming another component starts from that component's own defaults.

    jsonargparse carries over each parameter that the new class accepts as well, so that the
    learning rate chosen for one optimizer would silently become another's.
    """
    original = jsonargparse_typehints.discard_init_args_on_class_path_change

    def discard(parser_or_action: Any, previous: Any, value: Any) -> None:
        if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
            if str(value["class_path"]).partition(".")[0] in components.modules():
                previous["init_args"] = jsonargparse.Namespace()  # type: ignore[no-untyped-call]
            else:
                original(parser_or_action, previous, value)  # type: ignore[no-untyped-call]

    jsonargparse_typehints.discard_init_args_on_class_path_change = discard
    try:
        yield
    finally:
        jsonargparse_typehints.discard_init_args_on_class_path_change = original


@contextmanager
def _hidden_environment() -> Iterator[None]:
    """The environment's settings with `distribution:name` replaced, while parsing."""
    original = {key: value for key, value in os.environ.items() if key.startswith(f"{ENVIRONMENT_PREFIX}_")}
    os.environ.update({key: components.hidden(value) for key, value in original.items()})
    try:
        yield
    finally:
        os.environ.update(original)


def with_subcommand(arguments: Sequence[str]) -> list[str]:
    """The arguments with `fit` in front where no subcommand is given."""
    following = subcommand_of(arguments)
    asks_help = list(arguments[:1]) in (["-h"], ["--help"])
    return list(arguments) if following is not None or asks_help else ["fit", *arguments]


def subcommand_of(arguments: Sequence[str]) -> str | None:
    """The word where the subcommand stands; as with LightningCLI, only `--config` may come before it."""
    position = position_of_subcommand(arguments)
    following = arguments[position] if position < len(arguments) else "-"
    return None if following.startswith("-") else following


def position_of_subcommand(arguments: Sequence[str]) -> int:
    """Where the subcommand stands, behind `--config` flags; the number of arguments if there is none."""
    position = 0
    while position < len(arguments) and re.match(r"(-c|--config)(=|$)", arguments[position]):
        position += 1 if "=" in arguments[position] else 2
    return position


def addressed(arguments: Sequence[str]) -> Sequence[str]:
    """The subcommands that a command line can speak to: its own alone, where nothing stands before that.

    Others are listed by `--help`, and set by a configuration file of all subcommands.
    """
    alone = arguments[0] in SUBCOMMANDS and f"{ENVIRONMENT_PREFIX}_CONFIG" not in os.environ
    return arguments[:1] if alone else list(SUBCOMMANDS)
