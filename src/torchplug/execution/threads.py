"""How many of a CPU's threads the steps of a fit use."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import torch
from torch import nn

from torchplug.execution.cost_model import seconds_of_work

_WORTH_A_THREAD = 1.5e-4
"""Seconds of work in a step below which another thread costs more in synchronization than it saves."""


class ThreadLimit:
    """Within the block, torch uses as many threads as a step's work is worth, and at most as many as before.

    Two threads take longer than one where each kernel ends before the other thread has woken up.

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


def threads_of_steps(network: nn.Module, rows: int, device: torch.device) -> AbstractContextManager[None]:
    """Return a reusable context in which steps are made: a thread limit on the CPU, nothing elsewhere.

    Args:
        network: whose parameters say how large a step is.
        rows: in a rank's batch.
        device: where the network is.
    """
    return ThreadLimit(seconds_of_work(network, rows)) if device.type == "cpu" else nullcontext()
