"""Agreement of all ranks on one run directory, before there is a process group."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from lightning.pytorch.utilities import rank_zero_only

from torchplug.errors import ConfigurationError
from torchplug.processes.job import current

HANDOVER = "TORCHPLUG_RUN_DIRECTORY"
"""Environment variable by which rank 0 passes the text to the processes that Lightning starts."""

_calls = itertools.count()


def is_rank_zero() -> bool:
    """Whether this process is the one that writes, by the environment so far."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def agree(make: Callable[[], str]) -> str:
    """Return rank 0's text, here a path, on every rank.

    Args:
        make: called on rank 0 only, once.

    It depends on what started the ranks:

    - Lightning starts the script once and later re-executes it for the other ranks, with its own
      environment: a variable carries the text. Each of those processes removes it from the
      environment, so that a later job does not use it.
    - torchrun, which sets RANK and WORLD_SIZE, starts all ranks at once. They meet in a key-value store
      (`processes.meeting`). An id such as TORCHELASTIC_RUN_ID would not distinguish consecutive jobs: it
      is "none" for every job with static rendezvous.

    Raises:
        ConfigurationError: in a rank that received no text, with how to start it instead.
        RankEndedError: if rank 0 has ended meanwhile.
    """
    if "RANK" in os.environ and (job := current()) is not None:
        return job.agree(f"agreed/{next(_calls)}", make)
    if int(os.environ.get("NODE_RANK", "0")) > 0:
        raise ConfigurationError("on several nodes ranks cannot agree on a run directory: start them with torchrun")
    if is_rank_zero():
        text = make()
        os.environ[HANDOVER] = text
        return text
    handed = os.environ.pop(HANDOVER, None)
    if handed is None:
        raise ConfigurationError(
            "a rank was not told the run directory (one that Lightning launched is told once): "
            "start the ranks with torchrun"
        )
    return handed
