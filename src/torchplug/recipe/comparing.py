"""The command `compare`: how several runs differ, as tables and a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.module import ComponentModule
from torchplug.recipe.output import print_table, say_notes
from torchplug.recipe.run_names import run_named
from torchplug.terminal import printable
from torchplug.workflow import pictures
from torchplug.workflow.comparison import compare as compare_runs

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def compare(command: Command, module: ComponentModule, data: TabularData) -> int:
    """Print what differs, and draw the metrics by epoch; returns the exit status.

    Raises:
        TorchplugError: for directories that are no runs, or a picture that cannot be written.
    """
    comparison = compare_runs([run_named(name, command.recipe) for name in command.settings.others["runs"]])
    if comparison.settings.is_empty():
        print("the runs have the same settings")
    else:
        print_table(comparison.settings, "settings that differ")
    print_table(comparison.metrics, "last values")
    output = command.settings.others["output"]
    if pictures.available():
        print(f"picture: {printable(str(comparison.draw(output)))}")
    elif output != "comparison.png":
        raise ConfigurationError(f"--output {output}: {pictures.INSTALL}")
    else:
        say_notes([pictures.INSTALL])
    return 0
