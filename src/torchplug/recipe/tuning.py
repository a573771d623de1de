"""The commands `tune_lr` and `tune_batch_size`: what short trial trainings suggest."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from torchplug.data.tabular import TabularData
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_table, say_notes
from torchplug.terminal import printable
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow import tuning

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def tune_lr(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print the suggested learning rate and its rule; returns the exit status."""
    found = tuning.tune_lr(command.settings.model, data, **_arguments(command), **command.settings.others)
    say_notes([*command.notes, *found.run.notes])
    if found.suggestion is not None:
        print(f"suggestion: --model.optimizer.lr {found.suggestion:.3g}, where the loss falls most steeply")
    _print_files(found.run, ("lr.csv", "lr.png"))
    return 0


def tune_batch_size(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print speed and noise for each batch size; returns the exit status."""
    found = tuning.tune_batch_size(command.settings.model, data, **_arguments(command), **command.settings.others)
    say_notes([*command.notes, *found.run.notes])
    print_table(found.table, f"{command.recipe}: noise scale {found.noise_scale:.3g} rows")
    print(f"largest: {found.largest}, fastest: {found.fastest}")
    print(f"suggestion: --data.batch_size {found.suggestion}, of the least estimated time")
    _print_files(found.run, ("batch_sizes.csv", "batch_sizes.png"))
    return 0


def _arguments(command: Command) -> dict[str, Any]:
    values = command.settings
    return {
        "trainer": command.chosen_trainer(),
        "tracking": Tracking(**values.tracking),
        "name": f"{command.recipe}-{command.subcommand}",
        "seed": values.seed_everything,
    }


def _print_files(run: Run, names: tuple[str, ...]) -> None:
    for name in names:
        if (file := run.path / name).is_file():
            print(f"{'picture' if file.suffix == '.png' else 'table'}: {printable(os.path.relpath(file))}")
    print(f"run: {printable(os.path.relpath(run.path))}")
