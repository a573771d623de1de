"""What the ranks of a job do together before a fit or an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.utilities import rank_zero_only

from torchplug.data.tabular import TabularData
from torchplug.processes.comparison import description
from torchplug.processes.launching import gather
from torchplug.registry import registry


def first_rank() -> bool:
    """Whether this process is the rank that writes and prints."""
    return int(rank_zero_only.rank) == 0  # type: ignore[attr-defined]


def meet(trainer: lightning.Trainer, data: TabularData, settings: Mapping[str, Any], checkpoint: Path | None) -> None:
    """Connect all ranks, and refuse the job if they do not run the same.

    Args:
        trainer: of the fit or evaluation to come.
        data: prepared.
        settings: the resolved configuration, nested.
        checkpoint: the file to start from, if any.

    Raises:
        ConfigurationError: naming the rank that differs, and in what.
    """
    job = gather(trainer)
    if job is not None:
        job.compare(description(settings, data.fingerprint, data.sizes, registry().plugins, checkpoint))
        job.watch()
