"""How many of a CPU's threads a step has, and that the memory it gives back stays for the next."""

from __future__ import annotations

import ctypes
import os
import sys
from types import TracebackType
from typing import Any

import torch
from torch import nn

from torchplug.execution.cost_model import bytes_of_step, seconds_of_work

_WORTH_A_THREAD = 1.5e-4
"""Seconds of work in a step below which another thread costs more, in waiting for each other, than it does."""
_WORTH_KEEPING = 2**23
"""Bytes that a step's layers write, from which on the C library gives memory back between steps."""
_OF_THE_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")
"""Environment variables that say how the C library shall do it."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of mallopt's parameters, as malloc.h has them."""


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


class KeptMemory:
    """Between `start` and `end`, memory that a large step gives back stays with the process for the next one.

    The GNU C library gives large pieces back to the system as soon as they are free, and the system clears each page
    anew: that can take longer than all that is computed into them. Other C libraries are left as they are, and so is
    this one where environment variables say how it shall behave. After a fit that was broken off it stays so until the
    next one of large steps has ended.
    """

    def __init__(self) -> None:
        self._is_on = False

    def start(self, step_bytes: int) -> None:
        """Keep memory from now on, where steps of so many bytes are worth it."""
        if step_bytes < _WORTH_KEEPING or not sys.platform.startswith("linux"):
            return
        if any(name in os.environ for name in _OF_THE_USER):
            return
        self._is_on = _set_malloc(_MMAP_THRESHOLD, 2**30) and _set_malloc(_TRIM_THRESHOLD, -1)

    def end(self) -> None:
        """Give back what is free, and behave as a process does that has had large pieces of memory before."""
        if not self._is_on:
            return
        self._is_on = False
        _set_malloc(_MMAP_THRESHOLD, 2**25)
        _set_malloc(_TRIM_THRESHOLD, 2**26)
        ctypes.CDLL(None).malloc_trim(0)


class Processor:
    """What the steps of a fit have of a CPU: where entered as many threads as they are worth, until `end` their memory.

    Of another device it does nothing.

    Args:
        network: says with the rows how large a step is.
        rows: in a rank's batch.
        device: where the network is.
    """

    def __init__(self, network: nn.Module, rows: int, device: torch.device) -> None:
        self._threads: ThreadLimit | None = None
        self._memory = KeptMemory()
        if device.type == "cpu":
            self._threads = ThreadLimit(seconds_of_work(network, rows))
            self._memory.start(bytes_of_step(network, rows))

    def __enter__(self) -> None:
        if self._threads is not None:
            self._threads.__enter__()

    def __exit__(self, *raised: Any) -> None:
        if self._threads is not None:
            self._threads.__exit__(*raised)

    def end(self) -> None:
        """The last step is made."""
        self._memory.end()


def _set_malloc(parameter: int, value: int) -> bool:
    """Set a parameter of the C library's malloc; returns whether it has it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and mallopt(parameter, value) == 1
