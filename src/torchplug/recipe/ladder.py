"""The command `ladder`: whether a model can fit one row, a handful, more and all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console

from torchplug.data.tabular import TabularData
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_files, print_table, say_notes
from torchplug.terminal import one_line
from torchplug.workflow.ladder.api import Climbing

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

FAILED = 4
"""The exit status of a ladder with a rung that failed."""


def ladder(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print rungs, cause and remedies; returns the exit status: 0, or 4 where a rung failed.

    Raises:
        TorchplugError: for input that is refused.
    """
    quiet = {**command.trainer(), "enable_progress_bar": False}
    climbing = Climbing(
        module=module, data=data, root="runs", **{**command.method(), "trainer": quiet}, **command.options
    )
    console = Console(stderr=True)
    with console.status("preparing") as status:
        found = climbing.run(lambda rung: status.update(f"rung: {rung}"))
    say_notes([*command.notes, *found.run.notes])
    print_table(found.table, f"{command.recipe}: from one row to all")
    for rung in found.rungs:
        if rung.cause is not None:
            print(one_line(f"{rung.name}: {rung.cause.code} {rung.cause.name}: {rung.cause.evidence}"))
            for number, remedy in enumerate(rung.cause.remedies, start=1):
                print(f"  {number}. {one_line(remedy)}")
    print_files(found.run, "losses.csv", "ladder.png")
    return 0 if found.passed else FAILED
