"""How every rank comes to use the same run directory, before there is a process group."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import timedelta

from lightning.pytorch.utilities import rank_zero_only
from torch.distributed.rendezvous import rendezvous

from torchplug.errors import ConfigurationError

HANDOVER = "TORCHPLUG_RUN_DIRECTORY"
"""Through this variable rank 0 tells the processes that Lightning will start from it."""

PATIENCE = timedelta(minutes=5)
"""How long a rank waits for the others: they may import, and read their data, at different speeds."""

_calls = itertools.count()
_stores: list[object] = []


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
    - torchrun (whoever sets RANK and WORLD_SIZE) starts all ranks at once. They meet in the
      key-value store at MASTER_ADDR:MASTER_PORT, where the process group will be formed as well.
      That store belongs to one job and dies with it, so two jobs in a row cannot be confused; an id
      such as TORCHELASTIC_RUN_ID could, it is "none" for every job with static rendezvous.

    Raises:
        ConfigurationError: in a rank that nobody told, with how to start it instead.
    """
    if "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return _through_store(make)
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


def _through_store(make: Callable[[], str]) -> str:
    store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
    # Where torchrun's agent does not host the store, rank 0 does, as long as somebody holds it.
    _stores.append(store)
    # The agent's store survives restarts of the workers, which then count from 0 again.
    key = f"torchplug/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_calls)}"
    if rank == 0:
        text = make()
        store.set(key, text)
        return text
    path: bytes = store.get(key)
    return path.decode()
