"""Estimated cost of an optimizer step, from sizes alone, so that it is equal on every rank and in every run."""

from __future__ import annotations

from torch import nn

_CALLS = 2e-5
"""Fixed overhead of a step in seconds."""
_OPERATIONS = 1e11
"""Floating-point operations per second and thread."""
_BYTES = 1e10
"""Bytes read or written per second and thread."""
_COMPILING = 8.0
"""Seconds that compiling takes the first time, per linear map and one more."""
_SAVED = 7e-6
"""Seconds that a graph of several steps saves per step and linear map, against analytic gradients."""
_MARGIN = 2.0
"""How many times its cost compiling must save, since training may end before its planned step."""


def seconds_of_work(network: nn.Module, rows: int) -> float:
    """Return the estimated seconds of a step's arithmetic on one thread.

    Args:
        network: the network; its parameters determine the cost.
        rows: rows of a rank's batch.
    """
    elements = sum(parameter.numel() for parameter in network.parameters())
    # forward and backward: 6 operations per parameter and row; memory traffic of the layers, twice
    return 6.0 * rows * elements / _OPERATIONS + 2.0 * bytes_of_step(network, rows) / _BYTES


def seconds_of_step(network: nn.Module, rows: int) -> float:
    """Return the estimated seconds of a step on one thread, with its fixed overhead."""
    return _CALLS + seconds_of_work(network, rows)


def compiling_pays(network: nn.Module, rows: int, steps: int | None) -> bool:
    """Return whether graphs of several steps are estimated to save time over a whole fit.

    They save calls of kernels, whose number grows with the linear maps, as does the time of compiling. Where arithmetic
    dominates, compiled code may be slower.

    Args:
        network: the network; its weight matrices determine the estimate.
        rows: rows of a batch.
        steps: the planned optimizer steps; None if their number is not bounded.
    """
    maps = sum(parameter.ndim == 2 for parameter in network.parameters())
    if steps is None or seconds_of_work(network, rows) > _CALLS * maps:
        return False
    return steps * _SAVED * maps > _MARGIN * _COMPILING * (1 + maps)


def bytes_of_step(network: nn.Module, rows: int) -> int:
    """Return the estimated bytes of the linear maps' inputs and outputs, kept for backward; in float32.

    Args:
        network: the network; its weight matrices determine the size.
        rows: rows of a rank's batch.
    """
    return 4 * rows * sum(sum(parameter.shape) for parameter in network.parameters() if parameter.ndim == 2)
