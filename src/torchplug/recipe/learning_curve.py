"""The command `learning_curve`: errors by the number of training rows, and what more of them would bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.interruption import INTERRUPTED
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_files, print_table, say_notes
from torchplug.terminal import one_line
from torchplug.workflow.learning_curve.api import Tracing
from torchplug.workflow.unfinished import Unfinished

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def learning_curve(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Train, and print the curve; returns the exit status.

    Raises:
        TorchplugError: for input that is refused.
    """
    options = {**command.options, "fractions": _numbers(command.options["fractions"])}
    job = Tracing(config=command.settings.model, data=data, root="runs", **command.method(), **options)
    try:
        found = job.run()
    except Unfinished as stop:
        print(f"interrupted; {command.resuming(stop.run)}")
        return INTERRUPTED
    say_notes([*command.notes, *found.run.notes])
    print_table(found.table, f"{command.recipe}: growing parts of the training split")
    print(one_line(found.line))
    print_files(found.run, "learning_curve.csv", "learning_curve.png")
    return 0


def _numbers(given: str | list[float]) -> list[float]:
    """Numbers, also as text with commas between them."""
    if not isinstance(given, str):
        return list(given)
    try:
        return [float(number) for number in given.strip("[]").split(",")]
    except ValueError:
        raise ConfigurationError(f"--fractions: expected numbers such as 0.1,0.5,1, got {given}") from None
