"""One command of a recipe: from arguments to settings, objects and a finished run."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning

from torchplug.checks import refuse_numbers
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.origin import Origin
from torchplug.module import EVALUATION_SETTINGS, HOW_STEPS_ARE_MADE, ComponentModule
from torchplug.recipe import environment, running
from torchplug.recipe.adaptation import Adaptation, adapt, adapted_keys, with_stand_ins
from torchplug.recipe.checkpoint import locate, settings_of
from torchplug.recipe.collector import leave_to_the_system
from torchplug.recipe.help_text import help_of, overview, print_help_of
from torchplug.recipe.lightning_classes import MODULES, build_classes
from torchplug.recipe.output import say_notes, short_path
from torchplug.recipe.paths import refuse_impossible_paths
from torchplug.recipe.settings import Settings
from torchplug.recipe.sources import CommandLine, gather, option
from torchplug.recipe.subcommands import SUBCOMMANDS
from torchplug.recipe.values import Values, as_yaml, difference, resolve
from torchplug.registry import registry
from torchplug.registry.component import Spec
from torchplug.registry.lock import refuse_difference
from torchplug.registry.signatures import plain
from torchplug.settings.model import SLOTS, read_model
from torchplug.terminal import printable
from torchplug.tracking.checkpoint_versions import version_notes
from torchplug.tracking.checkpoints import ensemble_of, module_of, uncalibrated
from torchplug.tracking.ensemble import Ensemble, is_ensemble
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking


@dataclass(frozen=True)
class Command:
    """A command line that was read.

    Args:
        recipe: the recipe's name, under which its runs lie.
        script: how the recipe was called, for the message that says how to resume.
        line: the command line.
        settings: the resolved settings.
        origin: the checkpoint to start from, if any.
        adaptation: what followed from the table, for a new fit of a recipe with rules.
    """

    recipe: str
    script: str
    line: CommandLine
    settings: Values
    origin: Origin | None
    adaptation: Adaptation | None

    @property
    def subcommand(self) -> str:
        """What was asked for, such as fit."""
        return self.line.subcommand

    @property
    def notes(self) -> list[str]:
        """What followed from the table."""
        if self.adaptation is None:
            return []
        groups = {"data": self.settings.data, "trainer": self.settings.trainer}
        return self.adaptation.notes(self.settings.model, groups)

    def names(self, setting: str) -> bool:
        """Whether the command line itself gives a setting, such as data.source."""
        return setting in self.line.flags

    def data(self) -> TabularData:
        """The data module; it reads nothing yet, or is the one that settings followed from."""
        settings = dict(self.settings.data)
        if self.adaptation is not None and self.adaptation.data.adopt_batch_size(settings):
            return self.adaptation.data
        return TabularData(**settings)

    def module(self) -> ComponentModule | Ensemble:
        """The module: a new one to fit, else the checkpoint's, which may be an ensemble.

        Raises:
            ConfigurationError: for components that do not exist or do not go together.
            CheckpointError: if the checkpoint cannot be loaded.
        """
        if SUBCOMMANDS[self.subcommand].starts_from == "settings":
            module = ComponentModule(**self.settings.model)
            refuse_numbers(module.resolved, self.settings.trainer["precision"])
            return module
        assert self.origin is not None, "it starts from a checkpoint"
        evaluation = {name: self.settings.model[name] for name in EVALUATION_SETTINGS}
        if is_ensemble(self.origin.content):
            return ensemble_of(self.origin.content, self.origin.file, **evaluation)
        return module_of(self.origin.content, self.origin.file, **evaluation)

    def run(self, module: ComponentModule | Ensemble, data: TabularData) -> int:
        """Do what was asked for.

        Returns:
            The exit status: 0, or 130 where training was interrupted and can be resumed.
        """
        if self.origin is not None:
            evaluated = SUBCOMMANDS[self.subcommand].starts_from == "checkpoint"
            say_notes([*version_notes(self.origin.content), *(uncalibrated(module) if evaluated else [])])
        return running.run(self, module, data)

    def trainer(self) -> dict[str, Any]:
        """Parameters of Lightning's Trainer, with objects where the settings name classes, such as callbacks.

        Raises:
            ConfigurationError: for what such a class refuses.
        """
        classes = build_classes({name: self.settings.trainer[name] for name in MODULES})
        parameters = {**self.settings.trainer, **classes}
        parameters["enable_progress_bar"] = parameters["enable_progress_bar"] is not False and sys.stdout.isatty()
        return parameters

    def chosen_trainer(self) -> dict[str, Any]:
        """The Trainer's parameters that differ from its defaults; models with any other may not share a program."""
        own = inspect.signature(lightning.Trainer).parameters
        return {name: value for name, value in self.trainer().items() if value != own[name].default}

    def method(self) -> dict[str, Any]:
        """The arguments that all methods of the working method have: trainer, tracking, name, seed."""
        return {
            "trainer": self.chosen_trainer(),
            "tracking": Tracking(**self.settings.tracking),
            "name": f"{self.recipe}-{self.subcommand}",
            "seed": self.settings.seed_everything,
        }

    def resuming(self, run: Run, flag: str = "--resume") -> str:
        """How to go on with a method that was interrupted: this command line with the flag and the run."""
        given = list(self.line.arguments)
        if not any(argument == flag or argument.startswith(f"{flag}=") for argument in given):
            given += [flag, min(os.path.relpath(run.path), str(run.path), key=len)]
        return f"go on with: python {short_path(Path(self.script))} {printable(shlex.join(given))}"

    def config(self) -> str:
        """The resolved settings as YAML that `--config` reads; where it started from is no setting."""
        refit = () if self.settings.others.get("refit") else ("refit",)
        return self.settings.text(leave_out=("ckpt_path", "ensemble", "ensemble_by", *refit))


def parse(script: str, arguments: Sequence[str] | None, settings: Settings) -> Command:
    """Read a recipe's command line: its settings, then files, environment and flags.

    Args:
        script: the recipe's file; its stem names the recipe.
        arguments: what follows the script's name; None: sys.argv's.
        settings: the recipe's own.

    Raises:
        ConfigurationError: for settings that do not exist or do not fit, in one line.
        CheckpointError: if `--ckpt_path` leads nowhere.
    """
    own = arguments is None
    if own:
        leave_to_the_system()
    environment.refuse_launch()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    line, recipe = gather(arguments), Path(script).stem
    if line.subcommand and (lock := option(line, "plugins_lock")) is not None:
        refuse_difference(Path(lock))
    _help(Path(script).name, line, settings)
    origin = locate(line, recipe)
    if origin is not None:
        if own:
            # Lightning starts other ranks with these arguments: a run that ends meanwhile must not
            # give them another checkpoint.
            sys.argv[1:] = [*arguments, "--ckpt_path", str(origin.file)]
        settings = settings_of(origin, settings, resume=line.subcommand == "fit")
    adaptation = None
    if origin is None and settings.adapt is not None and SUBCOMMANDS[line.subcommand].reads_table:
        running.quieten()
        adaptation = adapt(settings, lambda defaults: resolve(defaults, line))
        settings = adaptation.apply(settings)
    elif origin is None and not SUBCOMMANDS[line.subcommand].reads_table:
        settings = with_stand_ins(settings)
    values = resolve(settings, line)
    refuse_impossible_paths(values)
    command = Command(recipe, script, line, values, origin, adaptation)
    if origin is not None:
        _refuse_changes(command, settings.model)
    if line.print_config is not None:
        _print_config(command, settings)
    return command


def _help(program: str, line: CommandLine, settings: Settings) -> None:
    """Print the help that was asked for, if any, and end the program."""
    if line.help_of is not None:
        print_help_of(*line.help_of)
    elif not line.subcommand:
        print(overview(program))
    elif line.asks_help:
        print(help_of(program, line.subcommand, with_stand_ins(settings), adapted_keys(settings)))
    else:
        return
    raise SystemExit(0)


def _print_config(command: Command, settings: Settings) -> None:
    """Print the settings as a configuration file, and end the program."""
    content = command.settings.plain()
    if "skip_default" in str(command.line.print_config):
        content = difference(content, resolve(settings, CommandLine(command.subcommand)).plain())
    print(printable(as_yaml(content), lines=True), end="")
    raise SystemExit(0)


def _refuse_changes(command: Command, defaults: Mapping[str, Any]) -> None:
    """Refuse model settings that differ from the checkpoint's and could not take effect."""
    free = {"fit": (*HOW_STEPS_ARE_MADE, *EVALUATION_SETTINGS), "predict": ("calibrate",)}.get(
        command.subcommand, EVALUATION_SETTINGS
    )
    trained, wanted = read_model(defaults, ()), command.settings.model
    for slot, value in wanted.items():
        if slot not in free and _qualified(slot, value) != _qualified(slot, trained[slot]):
            raise ConfigurationError(
                f"--model.{slot} cannot change: the checkpoint was trained with {_shown(trained[slot])}, "
                f"not {_shown(value)}; fit again without --ckpt_path"
            )


def _qualified(slot: str, value: Any) -> Any:
    """A slot's components with the names of their distributions, so that each has one name."""
    if isinstance(value, list):
        return [_qualified(slot, item) for item in value]
    return registry().resolve(SLOTS[slot].family, value).spec if isinstance(value, Spec) else value


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if not isinstance(value, Spec):
        return repr(plain(value))
    return f"{value.name}({', '.join(f'{key}={_shown(item)}' for key, item in value.parameters.items())})"
