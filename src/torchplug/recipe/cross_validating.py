"""The command `cross_validate`: metrics of each fold, their means and intervals, and an ensemble that predicts."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import polars

from torchplug.data.tabular import TabularData
from torchplug.fitting.training import STALLED
from torchplug.interruption import INTERRUPTED
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_table, say_notes, short_path
from torchplug.terminal import printable
from torchplug.tracking.settings import Tracking
from torchplug.workflow.cross_validation.api import CrossValidating, Unfinished
from torchplug.workflow.cross_validation.result import CrossValidation

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def cross_validate(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Train and evaluate each fold; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, and files that cannot be written.
    """
    values = command.settings
    job = CrossValidating(
        config=values.model,
        data=data,
        trainer=command.chosen_trainer(),
        tracking=Tracking(**values.tracking),
        name=f"{command.recipe}-cross_validate",
        root="runs",
        seed=values.seed_everything,
        **values.others,
    )
    try:
        found = job.run()
    except Unfinished as stop:
        resume = shlex.join([*command.line.arguments, "--resume"])
        script = short_path(Path(command.script))
        print(f"interrupted; go on with: python {printable(f'{script} {resume} {short_path(stop.run.path)}')}")
        return INTERRUPTED
    say_notes([*command.notes, *found.run.notes])
    print_table(per_fold(found), f"{command.recipe}: {len(found.results)} folds")
    for label, name in (("folds", "folds.csv"), ("out of fold", "out_of_fold.csv"), ("picture", "out_of_fold.png")):
        if (file := found.run.path / name).is_file():
            print(f"{label}: {printable(os.path.relpath(file))}")
    print(f"run: {printable(os.path.relpath(found.run.path))}")
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
