"""About how much an optimizer step does, told from sizes alone: the same on every rank and in every run."""

from __future__ import annotations

from torch import nn

_CALLS = 2e-5
"""Seconds of a step whatever its size."""
_OPERATIONS = 1e11
"""Floating-point operations that a thread does in a second."""
_BYTES = 1e10
"""Bytes that a thread reads or writes in a second."""


def seconds_of_work(network: nn.Module, rows: int) -> float:
    """What the arithmetic of a step takes one thread.

    Args:
        network: whose parameters say how much that is.
        rows: in a rank's batch.
    """
    elements = sum(parameter.numel() for parameter in network.parameters())
    # forward and backward: 6 operations for each parameter and row; what layers read and write, twice
    return 6.0 * rows * elements / _OPERATIONS + 2.0 * bytes_of_step(network, rows) / _BYTES


def seconds_of_step(network: nn.Module, rows: int) -> float:
    """The same, with what surrounds the arithmetic."""
    return _CALLS + seconds_of_work(network, rows)


def bytes_of_step(network: nn.Module, rows: int) -> int:
    """What its layers read and write on the way forward, in single precision: memory that backward needs as well.

    Args:
        network: whose linear maps say how much that is.
        rows: in a rank's batch.
    """
    return 4 * rows * sum(sum(parameter.shape) for parameter in network.parameters() if parameter.ndim == 2)
