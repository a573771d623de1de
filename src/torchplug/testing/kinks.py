"""Where a function of one number has a kink: its derivative jumps, however near one looks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_ZOOMS = 6
"""Each divides the interval by 32."""


def largest_jump(slope: Callable[[Tensor], Tensor], low: float, high: float, points: int = 2001) -> tuple[float, float]:
    """Return where a derivative changes most within a tiny interval, and by how much.

    The interval with the largest change is divided again and again. A continuous derivative then changes by next to
    nothing, one with a jump by the jump.

    Args:
        slope: the derivative at each of many points (m,) → (m,), in float64.
        low: where to begin.
        high: where to end.
        points: of the first grid.
    """
    grid = torch.linspace(low, high, points, dtype=torch.float64) + 1e-4 * torch.pi
    for _ in range(_ZOOMS):
        change = slope(grid).diff().abs()
        at = int(change.argmax())
        jump = float(change[at])
        left, right = float(grid[at]), float(grid[at + 1])
        grid = torch.linspace(left, right, 33, dtype=torch.float64)
    return left, jump
