"""The number of CPU threads that a fit's steps use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import torch
from torch import nn

from torchplug.training.cost_model import seconds_of_work

_FACTORIZATION = 1e-10
"""Seconds on one thread of factorizing a matrix in float64, for each of its rows cubed."""
_WORTH_A_THREAD = 1.5e-4
"""Seconds of work per step and thread below which synchronization costs more than another thread saves."""


class ThreadLimit:
    """Context that limits torch's threads to what a step's work is worth.

    Small kernels end before a second thread has started, so that two threads take longer than one.

    Args:
        seconds: estimated seconds of a step on one thread.
    """

    def __init__(self, seconds: float) -> None:
        self._most = max(1, int(seconds / _WORTH_A_THREAD))
        self._before = 0

    def __enter__(self) -> None:
        self._before = torch.get_num_threads()
        if self._before > self._most:
            torch.set_num_threads(self._most)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before > self._most:
            torch.set_num_threads(self._before)


def threads_of_factorization(size: int) -> ThreadLimit:
    """Return a context in which matrices (size, size) are factorized on the CPU."""
    return ThreadLimit(_FACTORIZATION * size**3)


def threads_of_steps(network: nn.Module, rows: int, device: torch.device) -> AbstractContextManager[None]:
    """Return a reusable context in which steps are made: a thread limit on the CPU, nothing elsewhere.

    Args:
        network: the network; its parameters determine the size of a step.
        rows: rows of a rank's batch.
        device: the network's device.
    """
    return ThreadLimit(seconds_of_work(network, rows)) if device.type == "cpu" else nullcontext()
