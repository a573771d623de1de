"""Refusals of what would not fit into memory, or not end while anybody waits."""

from __future__ import annotations

import torch

from torchplug import Objective

GIBIBYTE = 2**30
_PATIENCE = 600.0
"""Seconds that one iteration may take."""
_SPEED = {"cpu": 2e10}
_MOST_PARAMETERS = 2000
"""Above that p² numbers would be much of a checkpoint."""
_LONGEST = 60.0
"""Seconds that an examination of the solution may take."""
_BACKWARD = 6
"""Operations per parameter and row of a pass that gives a column of a Hessian."""
_SPEED_OF_DEVICES = 1e12
"""Operations per second, in double precision, on the safe side."""


def refuse_memory(numbers: float, limit: float, what: str, alternative: str) -> None:
    """Refuse an array of more numbers than fit.

    Args:
        numbers: how many, in double precision.
        limit: in GiB.
        what: what they are, for the message.
        alternative: what to use instead.

    Raises:
        ValueError: with the memory that it would need.
    """
    needed = 8 * numbers / GIBIBYTE
    if needed > limit:
        raise ValueError(
            f"{what} would need {needed:.3g} GiB, more than memory_limit={limit:g}: "
            f"use {alternative}, or raise memory_limit"
        )


def seconds(operations: float, device: torch.device) -> float:
    """About how long so many operations take."""
    return operations / _SPEED.get(device.type, _SPEED_OF_DEVICES)


def refuse_time(operations: float, device: torch.device, what: str, alternative: str) -> None:
    """Refuse an iteration that takes too long.

    Args:
        operations: additions and multiplications per iteration.
        device: where they are done.
        what: what they are, for the message.
        alternative: what to use instead.

    Raises:
        ValueError: with the time that an iteration would take.
    """
    time = seconds(operations, device)
    if time > _PATIENCE:
        raise ValueError(f"{what} would take about {time / 60:.0f} minutes an iteration: use {alternative}")


def can_examine(objective: Objective) -> bool:
    """Whether there are at most 2,000 parameters, and a Hessian at the end of a fit takes at most a minute."""
    p = objective.size
    operations = _BACKWARD * objective.samples * p * objective.hessian_cost + p**3
    return p <= _MOST_PARAMETERS and seconds(operations, objective.point.device) <= _LONGEST
