"""The command `path`: a metric of unseen rows along the λ of a penalty, and the λ to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars

from torchplug.data.tabular import TabularData
from torchplug.interruption import INTERRUPTED
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_files, print_table, say_notes
from torchplug.workflow.regularization_path.api import PathJob
from torchplug.workflow.regularization_path.plan import Plan
from torchplug.workflow.regularization_path.result import RegularizationPath
from torchplug.workflow.unfinished import Unfinished

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

_FILES = ("path.csv", "coefficients.csv", "path.png", "best.yaml", "best_1se.yaml")


def path(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Fit along λ, print both choices and what was written; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, and files that cannot be written.
    """
    values, method = command.settings, command.method()
    tracking, name = method.pop("tracking"), method.pop("name")
    options = {option: value for option, value in command.options.items() if option != "resume"}
    plan = Plan(config=values.model, data=data, **method, **options)
    written = {group: value for group, value in values.plain().items() if group not in values.others}
    job = PathJob(plan, tracking, name, "runs", values.others["resume"], written, command.resuming)
    try:
        found = job.run()
    except Unfinished as stop:
        print(f"interrupted; {command.resuming(stop.run)}")
        return INTERRUPTED
    say_notes([*command.notes, *found.run.notes])
    print_table(chosen_rows(found), f"{command.recipe}: {found.metric} along λ of {found.parameter}")
    print_files(found.run, *_FILES)
    return 0


def chosen_rows(found: RegularizationPath) -> polars.DataFrame:
    """The rows of both choices, without the values of each fold."""
    chosen = [found.table.filter(coefficient=value) for value in (found.best, found.best_1se)]
    names = polars.Series("choice", ["best", "one standard error"])
    rows = polars.concat(chosen).select(polars.exclude("^fold_.*$"))
    return polars.DataFrame([names, *rows.get_columns()])
