"""One command of a recipe: from arguments to settings, objects and a finished run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from torchplug.component import Spec
from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.module import ComponentModule
from torchplug.recipe import running
from torchplug.recipe.checkpoint import Origin, locate
from torchplug.recipe.collector import leave_to_the_system
from torchplug.recipe.components import spec_of
from torchplug.recipe.messages import one_line
from torchplug.recipe.parser import (
    RecipeParser,
    Settings,
    addressed,
    build,
    misplaced,
    read,
    subcommand_of,
    with_subcommand,
)


class Command:
    """A parsed command line.

    Args:
        recipe: the recipe's name, under which its runs lie.
        script: how the recipe was called, for telling how to go on.
        subcommand: fit, validate, test or predict.
        parser: the subcommand's parser.
        settings: the resolved settings.
        origin: the checkpoint to start from, if any.
    """

    def __init__(
        self,
        recipe: str,
        script: str,
        subcommand: str,
        parser: RecipeParser,
        settings: jsonargparse.Namespace,
        origin: Origin | None,
    ) -> None:
        self.recipe = recipe
        self.script = script
        self.subcommand = subcommand
        self.parser = parser
        self.settings = settings
        self.origin = origin

    def data(self) -> TabularData:
        """The data module; it reads nothing yet."""
        return TabularData(**_plain(self.settings.data))

    def module(self) -> ComponentModule:
        """The module: a new one to fit, else the checkpoint's.

        Raises:
            ConfigurationError: for components that do not exist or do not go together.
            CheckpointError: if the checkpoint cannot be loaded.
        """
        if self.subcommand == "fit":
            return ComponentModule(**self.specs())
        assert self.origin is not None, "only fit goes without a checkpoint"
        try:
            return ComponentModule.load_from_checkpoint(self.origin.file, map_location="cpu", weights_only=True)
        except (KeyError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise CheckpointError(f"{self.origin.file} does not hold what its settings say: {text}") from error

    def run(self, module: ComponentModule, data: TabularData) -> int:
        """Do what was asked for.

        Returns:
            The exit status: 0, or 130 where training was interrupted and can go on.
        """
        return running.run(self, module, data)

    def specs(self) -> dict[str, Any]:
        """The components as specs, by ComponentModule's parameters."""
        return {name: _spec(value) for name, value in _plain(self.settings.model).items()}

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
    arguments = with_subcommand(sys.argv[1:] if arguments is None else arguments)
    recipe = Path(script).stem
    arguments, origin = locate(arguments, recipe)
    if own and origin is not None:
        # Lightning starts other ranks with these arguments: a run that ends meanwhile must not
        # give them another checkpoint.
        sys.argv[1:] = arguments
    if trouble := misplaced(arguments):
        raise ConfigurationError(trouble)
    if origin is not None:
        settings = origin.settings(settings, resume=subcommand_of(arguments) == "fit")
    parser = build(Path(script).name, settings, addressed(arguments))
    try:
        config = read(parser, arguments)
    except argparse.ArgumentError as error:
        named = parser.commands.get(subcommand_of(arguments) or "", parser)
        raise ConfigurationError(one_line(str(error), named.flags)) from error
    subcommand: str = config.subcommand
    command = Command(recipe, script, subcommand, parser.commands[subcommand], config[subcommand], origin)
    if origin is not None:
        _refuse_changes(command)
    return command


def _refuse_changes(command: Command) -> None:
    """Refuse model settings that differ from the checkpoint's: they could not take effect."""
    trained = _plain(command.parser.get_defaults().model)
    wanted = _plain(command.settings.model)
    for slot, value in wanted.items():
        if value != trained[slot]:
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
