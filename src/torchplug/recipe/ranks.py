"""What the ranks of a command do together: they meet, and one of them speaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import lightning
from lightning.pytorch.utilities import rank_zero_only

from torchplug.data.tabular import TabularData
from torchplug.processes.comparison import description
from torchplug.processes.launching import gather
from torchplug.registry import registry
from torchplug.terminal import one_line

if TYPE_CHECKING:
    from torchplug.recipe.command import Command


def first_rank() -> bool:
    """Whether this process is the one that speaks and writes."""
    return int(rank_zero_only.rank) == 0  # type: ignore[attr-defined]


def say_notes(notes: Sequence[str]) -> None:
    """What was noticed in the table, such as rows that were left out, and in the components."""
    if first_rank():
        for note in notes:
            print(f"note: {one_line(note)}", flush=True)


def meet(trainer: lightning.Trainer, command: Command, data: TabularData) -> None:
    """Let all ranks meet, before anything that they do together, and refuse the job if they do not run the same.

    Raises:
        ConfigurationError: naming the rank that differs, and in what.
    """
    job = gather(trainer)
    if job is not None:
        checkpoint = None if command.origin is None else command.origin.file
        settings = command.settings.as_dict()
        job.compare(description(settings, data.fingerprint, data.sizes, registry().plugins, checkpoint))
        job.watch()
