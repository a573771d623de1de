"""About how long an optimizer step takes, told from sizes alone: the same on every rank and in every run."""

from __future__ import annotations

from types import TracebackType

import torch
from torch import nn

_CALLS = 2e-5
"""Seconds of a step whatever its size."""
_OPERATIONS = 1e11
"""Floating-point operations that a thread does in a second."""
_BYTES = 1e10
"""Bytes that a thread reads or writes in a second."""
_WORTH_A_THREAD = 1.5e-4
"""Seconds of work in a step below which another thread costs more, in waiting for each other, than it does."""


def seconds_of_work(network: nn.Module, rows: int) -> float:
    """What the arithmetic of a step takes one thread.

    Args:
        network: whose parameters say how much that is.
        rows: in a rank's batch.
    """
    elements = numbers = 0
    for parameter in network.parameters():
        elements += parameter.numel()
        if parameter.ndim == 2:
            numbers += sum(parameter.shape)
    # forward and backward: 6 operations for each parameter and row; what layers read and write, twice, in 4 bytes
    return rows * (6.0 * elements / _OPERATIONS + 8.0 * numbers / _BYTES)


def seconds_of_step(network: nn.Module, rows: int) -> float:
    """The same, with what surrounds the arithmetic."""
    return _CALLS + seconds_of_work(network, rows)


class ThreadLimit:
    """Where entered, torch has no more threads than a step's work is worth, and at most those that it had.

    Two threads take longer than one where each kernel is done before the other has woken up.

    Args:
        seconds: of work in a step, for one thread.
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
