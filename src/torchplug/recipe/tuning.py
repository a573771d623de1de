"""The commands `tune_lr` and `tune_batch_size`: what short trial trainings suggest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchplug.data.tabular import TabularData
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_files, print_table, say_notes
from torchplug.workflow import tuning

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def tune_lr(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print the suggested learning rate and its rule; returns the exit status."""
    found = tuning.tune_lr(command.settings.model, data, **command.method(), **command.options)
    say_notes([*command.notes, *found.run.notes])
    if found.suggestion is not None:
        print(f"suggestion: --model.optimizer.lr {found.suggestion:.3g}, where the loss falls most steeply")
    print_files(found.run, "lr.csv", "lr.png")
    return 0


def tune_batch_size(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print speed and noise for each batch size; returns the exit status."""
    found = tuning.tune_batch_size(command.settings.model, data, **command.method(), **command.options)
    say_notes([*command.notes, *found.run.notes])
    print_table(found.table, f"{command.recipe}: noise scale {found.noise_scale:.3g} rows")
    print(f"largest: {found.largest}, fastest: {found.fastest}")
    print(f"suggestion: --data.batch_size {found.suggestion}, of the least estimated time")
    print_files(found.run, "batch_sizes.csv", "batch_sizes.png")
    return 0
