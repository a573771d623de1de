"""The command `cross_validate`: metrics of each fold, their means and intervals, and an ensemble that predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars

from torchplug.data.tabular import TabularData
from torchplug.fitting.training import STALLED
from torchplug.interruption import INTERRUPTED
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_files, print_table, say_notes
from torchplug.workflow.cross_validation.api import CrossValidating
from torchplug.workflow.cross_validation.result import CrossValidation
from torchplug.workflow.unfinished import Unfinished

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def cross_validate(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Train and evaluate each fold; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, and files that cannot be written.
    """
    options = command.options
    job = CrossValidating(config=command.settings.model, data=data, root="runs", **command.method(), **options)
    try:
        found = job.run()
    except Unfinished as stop:
        print(f"interrupted; {command.resuming(stop.run)}")
        return INTERRUPTED
    say_notes([*command.notes, *found.run.notes])
    print_table(per_fold(found), f"{command.recipe}: {len(found.results)} folds")
    print_files(found.run, "folds.csv", "out_of_fold.csv", "out_of_fold.png")
    return STALLED if found.stalled else 0


def per_fold(found: CrossValidation) -> polars.DataFrame:
    """A row for each fold, then their mean and the half width of its interval; a column for each metric."""
    place = {"fold": [*map(str, range(len(found.results))), "mean", "± (95 %)"]}
    columns = {
        name: [*values, found.mean[name], (found.interval[name][1] - found.interval[name][0]) / 2]
        for name, values in found.folds.items()
    }
    table = polars.DataFrame(place | columns)
    return table.with_columns(polars.col(polars.Float64).fill_nan(None))
