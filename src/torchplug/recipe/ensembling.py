"""The command `fit --ensemble`: several models trained together, which predict as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchplug.data.tabular import TabularData
from torchplug.interruption import INTERRUPTED
from torchplug.recipe.certainty import how_sure
from torchplug.recipe.output import print_files, print_table, say_notes
from torchplug.workflow.ensemble.api import Ensembling
from torchplug.workflow.unfinished import Unfinished

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def fit_ensemble(command: Command, data: TabularData) -> int:
    """Train, and print the ensemble beside its members; returns the exit status.

    Raises:
        TorchplugError: for input that is refused, or if no member could be trained.
    """
    options = command.settings.others
    job = Ensembling(
        config=command.settings.model,
        data=data,
        members=options["ensemble"],
        by=options["ensemble_by"],
        root="runs",
        resume=options["ckpt_path"],
        **{**command.method(), "name": command.recipe},
    )
    say_notes(command.notes)
    try:
        found = job.run()
    except Unfinished as stop:
        print(f"interrupted; {command.resuming(stop.run, '--ckpt_path')}")
        return INTERRUPTED
    say_notes(found.run.notes)
    if found.members:
        print_table(found.table, command.recipe)
    print(found.line)
    for line in how_sure(found.ensemble.members[0], found.ensemble.calibration):
        print(line)
    print_files(found.run)
    return 0
