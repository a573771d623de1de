"""One command of a recipe: from arguments to settings, objects and a finished run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
from lightning.fabric.utilities.exceptions import MisconfigurationException

from torchplug.component import Spec
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.checks import refuse_numbers
from torchplug.fitting.origin import Origin
from torchplug.module import EVALUATION_SETTINGS, HOW_STEPS_ARE_MADE, ComponentModule
from torchplug.recipe import environment, running
from torchplug.recipe.adaptation import BY_THE_DATA, Adaptation, adapt, adapted_keys, with_stand_ins
from torchplug.recipe.arguments import normalized
from torchplug.recipe.checkpoint import locate, settings_of
from torchplug.recipe.collector import leave_to_the_system
from torchplug.recipe.components import spec_of
from torchplug.recipe.configuration import refuse_misplaced
from torchplug.recipe.messages import one_line as parser_line
from torchplug.recipe.output import say_notes
from torchplug.recipe.parser import (
    RecipeParser,
    Settings,
    addressed,
    build,
    known_settings,
    read,
    subcommand_of,
    with_subcommand,
)
from torchplug.recipe.paths import refuse_impossible_paths
from torchplug.recipe.versions import version_notes
from torchplug.registry import registry
from torchplug.tracking.checkpoints import module_of
from torchplug.tracking.choices import chosen
from torchplug.tracking.settings import Tracking


class Command:
    """A parsed command line.

    Args:
        recipe: the recipe's name, under which its runs lie.
        script: how the recipe was called, for telling how to go on.
        subcommand: fit, validate, test or predict.
        parser: the subcommand's parser.
        settings: the resolved settings.
        origin: the checkpoint to start from, if any.
        arguments: the command line.
        adaptation: what followed from the table, for a new fit of a recipe with rules.
    """

    def __init__(
        self,
        recipe: str,
        script: str,
        subcommand: str,
        parser: RecipeParser,
        settings: jsonargparse.Namespace,
        origin: Origin | None,
        arguments: Sequence[str] = (),
        adaptation: Adaptation | None = None,
    ) -> None:
        self.recipe = recipe
        self.script = script
        self.subcommand = subcommand
        self.parser = parser
        self.settings = settings
        self.origin = origin
        self.arguments = arguments
        self.adaptation = adaptation

    @property
    def notes(self) -> list[str]:
        """What followed from the table."""
        if self.adaptation is None:
            return []
        groups = {group: _plain(self.settings[group]) for group in ("data", "trainer")}
        return self.adaptation.notes(self.specs(), groups)

    def names(self, setting: str) -> bool:
        """Whether the command line itself gives a setting, such as data.source."""
        return any(argument.partition("=")[0] == f"--{setting}" for argument in self.arguments)

    def data(self) -> TabularData:
        """The data module; it reads nothing yet, or is the one that settings followed from."""
        settings = _plain(self.settings.data)
        if self.adaptation is not None and self.adaptation.data.adopt_batch_size(settings):
            return self.adaptation.data
        return TabularData(**settings)

    def module(self) -> ComponentModule:
        """The module: a new one to fit, else the checkpoint's.

        Raises:
            ConfigurationError: for components that do not exist or do not go together.
            CheckpointError: if the checkpoint cannot be loaded.
        """
        if self.subcommand == "fit":
            module = ComponentModule(**self.specs())
            refuse_numbers(module, self.settings.trainer.precision)
            return module
        assert self.origin is not None, "only fit goes without a checkpoint"
        evaluation = {name: self.specs()[name] for name in EVALUATION_SETTINGS}
        return module_of(self.origin.content, self.origin.file, **evaluation)

    def run(self, module: ComponentModule, data: TabularData) -> int:
        """Do what was asked for.

        Returns:
            The exit status: 0, or 130 where training was interrupted and can go on.
        """
        if self.origin is not None:
            say_notes(version_notes(self.origin.content))
        return running.run(self, module, data)

    def specs(self) -> dict[str, Any]:
        """The components as specs, by ComponentModule's parameters."""
        return {name: _spec(value) for name, value in _plain(self.settings.model).items()}

    def trainer(self) -> dict[str, Any]:
        """Parameters of Lightning's Trainer, with objects where the settings name classes, such as callbacks.

        Raises:
            ConfigurationError: for what such a class refuses.
        """
        try:
            chosen = dict(vars(self.parser.instantiate(self.settings).trainer))
        except (MisconfigurationException, ValueError, TypeError) as error:
            cause: BaseException = error
            while isinstance(cause.__cause__, Exception):  # the parser wraps what the class itself said
                cause = cause.__cause__
            raise ConfigurationError(f"--trainer: {' '.join(str(cause).split())}") from error
        chosen["enable_progress_bar"] = chosen.get("enable_progress_bar") is not False and sys.stdout.isatty()
        return chosen

    def config(self) -> str:
        """The resolved settings as YAML that `--config` reads; where it started from is no setting."""
        settings = self.settings.clone()
        for key in ("config", "ckpt_path"):
            settings.pop(key, None)
        return self.parser.dump(settings, skip_unset=False, skip_validation=True)


def parse(script: str, arguments: Sequence[str] | None, settings: Settings) -> Command:
    """Read a recipe's command line: its settings, then files, environment and flags.

    Args:
        script: the recipe's file; its stem names the recipe.
        arguments: what follows the script's name; None: sys.argv's.
        settings: the recipe's own.

    Raises:
        ConfigurationError: for what the parser refuses, in one line.
        CheckpointError: if `--ckpt_path` leads nowhere.
    """
    own = arguments is None
    if own:
        leave_to_the_system()
    environment.refuse_launch()
    arguments = with_subcommand(normalized(sys.argv[1:] if arguments is None else arguments))
    refuse_misplaced(arguments)
    recipe = Path(script).stem
    arguments, origin = locate(arguments, recipe)
    if own and origin is not None:
        # Lightning starts other ranks with these arguments: a run that ends meanwhile must not
        # give them another checkpoint.
        sys.argv[1:] = arguments
    adaptation = None
    asks_help = bool({"-h", "--help"} & set(arguments))
    if origin is not None:
        settings = settings_of(origin, settings, resume=subcommand_of(arguments) == "fit")
    elif settings.adapt is not None and not asks_help:
        running.quieten()
        plain = [argument for argument in arguments if not argument.startswith("--print_config")]
        adaptation = adapt(settings, lambda defaults: _resolved(script, recipe, plain, defaults))
        settings = adaptation.apply(settings)
    command = _resolved(script, recipe, arguments, settings, origin, adaptation, asks_help)
    if origin is not None:
        _refuse_changes(command)
    tracking = command.settings.tracking
    tracking.project = chosen(Tracking(**tracking.as_dict())).project
    return command


def _resolved(
    script: str,
    recipe: str,
    arguments: Sequence[str],
    settings: Settings,
    origin: Origin | None = None,
    adaptation: Adaptation | None = None,
    asks_help: bool = False,
) -> Command:
    """Parse a command line.

    Args:
        script: as for `parse`.
        recipe: the recipe's name.
        arguments: flags and subcommand, in the parser's form.
        settings: the defaults.
        origin: the checkpoint to start from, if any.
        adaptation: what followed from the table, if anything.
        asks_help: whether the parser is for printing help, which shows no value of settings that follow from a table.

    Raises:
        ConfigurationError: for what the parser refuses, in one line.
    """
    parser = build(Path(script).name, with_stand_ins(settings) if asks_help else settings, addressed(arguments))
    if asks_help and settings.adapt is not None:
        for command_parser in parser.commands.values():
            command_parser.set_defaults(dict.fromkeys(adapted_keys(settings), BY_THE_DATA))
    environment.refuse_unknown(known_settings(parser), (plugin.distribution for plugin in registry().plugins))
    try:
        config = read(parser, arguments)
    except argparse.ArgumentError as error:
        named = parser.commands.get(subcommand_of(arguments) or "", parser)
        raise ConfigurationError(parser_line(str(error), named.flags)) from error
    subcommand: str = config.subcommand
    named = parser.commands[subcommand]
    command = Command(recipe, script, subcommand, named, config[subcommand], origin, arguments, adaptation)
    refuse_impossible_paths(command.settings)
    return command


def _refuse_changes(command: Command) -> None:
    """Refuse model settings that differ from the checkpoint's and could not take effect."""
    free = {"fit": (*HOW_STEPS_ARE_MADE, *EVALUATION_SETTINGS), "predict": ()}.get(
        command.subcommand, EVALUATION_SETTINGS
    )
    trained = _plain(command.parser.get_defaults().model)
    wanted = _plain(command.settings.model)
    for slot, value in wanted.items():
        if value != trained[slot] and slot not in free:
            raise ConfigurationError(
                f"--model.{slot} cannot change: the checkpoint was trained with {_shown(trained[slot])}, "
                f"not {_shown(value)}; fit anew without --ckpt_path"
            )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    spec = _spec(value)
    if not isinstance(spec, Spec):
        return repr(spec)
    return f"{spec.name}({', '.join(f'{key}={item!r}' for key, item in spec.parameters.items())})"


def _spec(value: Any) -> Any:
    if isinstance(value, list):
        return [_spec(item) for item in value]
    return spec_of(value) if isinstance(value, dict) and "class_path" in value else value


def _plain(namespace: jsonargparse.Namespace) -> dict[str, Any]:
    values: dict[str, Any] = namespace.as_dict()
    values.pop("__path__", None)
    return values
