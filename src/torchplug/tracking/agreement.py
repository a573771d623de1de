"""How every rank comes to use the same run directory, before there is a process group."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from lightning.pytorch.utilities import rank_zero_only

from torchplug.errors import ConfigurationError
from torchplug.processes.job import current

HANDOVER = "TORCHPLUG_RUN_DIRECTORY"
"""Through this variable rank 0 tells the processes that Lightning will start from it."""

_calls = itertools.count()


def is_rank_zero() -> bool:
    """Whether this process is the one that writes, as far as is known by now."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def agree(make: Callable[[], str]) -> str:
    """Let rank 0 alone make a text, here a path, and return that text on every rank.

    Args:
        make: called on rank 0 only, once.

    Two ways, by who started the ranks:

    - Lightning starts the script once and later re-executes it for the other ranks, with its own
      environment: a variable carries the text. Each of those processes takes it out of the
      environment, so that it is never mistaken for that of a later job.
    - torchrun, which sets RANK and WORLD_SIZE, starts all ranks at once. They meet in a key-value store
      (`processes.meeting`). An id such as TORCHELASTIC_RUN_ID would not tell two jobs in a row apart: it
      is "none" for every job with static rendezvous.

    Raises:
        ConfigurationError: in a rank that nobody told, with how to start it instead.
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
