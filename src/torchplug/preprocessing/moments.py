"""Mean and spread of columns, combined over blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchplug.preprocessing.columns import Array


@dataclass(frozen=True)
class Moments:
    r"""Mean and spread of d columns, each over its own number of values, and of two blocks of rows together.

        m = m₁ + w₂ (m₂ − m₁),    s² = w₁ s₁² + w₂ s₂² + w₁ w₂ (m₂ − m₁)²,    wᵢ = nᵢ / (n₁ + n₂)

    Args:
        count: (d,) how many values.
        mean: (d,), in the columns' units; 0 where there is no value.
        deviation: (d,) population standard deviation, in the columns' units.
        low: (d,) the smallest value; ∞ where there is none.
        high: (d,) the largest value; −∞ where there is none.

    Reference: Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115.
    """

    count: Array
    mean: Array
    deviation: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, columns: Sequence[Array]) -> Moments:
        """The moments of columns given as their values (n_j,), which may be of different number."""
        each = [_column_moments(values) for values in columns]
        return cls(*(np.array([moments[i] for moments in each], dtype=np.float64) for i in range(5)))

    @classmethod
    def of_indicators(cls, ones: Sequence[int] | NDArray[np.int64], count: int) -> Moments:
        """The moments of 0/1 columns, by how many of their `count` values are 1."""
        share = np.array(ones, dtype=np.float64) / count
        return cls(
            np.full(len(share), float(count)),
            share,
            np.sqrt(share * (1.0 - share)),
            (share == 1.0).astype(np.float64),
            (share > 0.0).astype(np.float64),
        )

    @classmethod
    def of_constants(cls, values: Array, count: Array) -> Moments:
        """The moments of columns that hold one value each, `count` times or never."""
        some = count > 0
        zeros = np.zeros(len(values))
        return cls(
            count, np.where(some, values, 0.0), zeros, np.where(some, values, np.inf), np.where(some, values, -np.inf)
        )

    @classmethod
    def joined(cls, parts: Sequence[Moments]) -> Moments:
        """Return the moments of the columns of several tables side by side."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        first, second = (np.divide(m.count, count, out=np.zeros_like(count), where=count > 0) for m in (self, other))
        # halves and hypot: neither difference nor square leaves float64's range
        half_gap = other.mean / 2.0 - self.mean / 2.0
        within = np.hypot(np.sqrt(first) * self.deviation, np.sqrt(second) * other.deviation)
        return Moments(
            count,
            2.0 * (self.mean / 2.0 + second * half_gap),
            np.hypot(within, 2.0 * np.sqrt(first * second) * half_gap),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def shifted(self, by: float) -> Moments:
        """The moments of the same values plus a number."""
        return Moments(
            self.count, np.where(self.count > 0, self.mean + by, 0.0), self.deviation, self.low + by, self.high + by
        )

    def mean_and_spread(self) -> tuple[Array, Array]:
        """Mean and population standard deviation, (d,) each; a constant column has spread 1."""
        constant = self.low == self.high
        return np.where(constant, self.low, self.mean), np.where(constant, 1.0, self.deviation)

    def all_equal(self, values: Array) -> Array:
        """(d,) whether a column holds nothing but this value."""
        equal: Array = (self.low == values) & (self.high == values)
        return equal


def _column_moments(values: Array) -> tuple[float, float, float, float, float]:
    """Count, mean, deviation, smallest and largest of values (n,), with one temporary array (n,)."""
    if not len(values):
        return 0.0, 0.0, 0.0, np.inf, -np.inf
    low, high = float(values.min()), float(values.max())
    if low == high:
        return len(values), low, 0.0, low, high
    # halves, and deviations in units of the largest one: neither sum nor square leaves float64's range
    memory = values * 0.5
    mean = 2.0 * float(memory.mean())
    unit = max(abs(low - mean), abs(high - mean))
    np.subtract(values, mean, out=memory)
    memory /= unit
    return len(values), mean, unit * math.sqrt(np.square(memory, out=memory).mean()), low, high


class RunningMoments:
    """Moments of successive blocks of rows.

    Blocks are combined in pairs, so that the error grows with the logarithm of their number.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, Moments]] = []

    def add(self, block: Moments) -> None:
        """Add another block."""
        level = 0
        while self._pending and self._pending[-1][0] == level:
            block = self._pending.pop()[1] + block
            level += 1
        self._pending.append((level, block))

    def total(self) -> Moments:
        """Return the moments of all blocks so far, of which there is at least one."""
        result = self._pending[-1][1]
        for _, block in reversed(self._pending[:-1]):
            result = block + result
        return result
