"""Mean and spread of columns whose rows come a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchplug.preprocessing.columns import Array


@dataclass(frozen=True)
class Statistics:
    """Statistics of rows, per column.

    Args:
        mean: (d,).
        spread: (d,) population standard deviation; 1 for constant columns.
        low: (d,) the smallest value.
        high: (d,) the largest value.
    """

    mean: Array
    spread: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, blocks: Callable[[], Iterable[Array]], *, standardize: bool = True) -> Statistics:
        """Compute statistics in one pass over all rows, or two for a spread.

        Args:
            blocks: starts a new pass at each call and yields (rows, d) float64, at least one block, with at least one
                row each; blocks may be overwritten.
            standardize: whether mean and spread are computed; otherwise they are 0 and 1.
        """
        halves = RowSum()
        first = low = high = np.zeros(0)
        for block in blocks():
            if not len(first):
                first = low = high = block[0].copy()
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            if standardize:
                # halves, and deviations in units of the largest one: neither sum nor square leaves float64's range
                halves.add(np.divide(block, 2.0, out=block))
        if not standardize:
            return cls(np.zeros_like(first), np.ones_like(first), low, high)
        mean, constant = 2.0 * halves.mean, low == high
        unit = np.where(constant, 1.0, np.maximum(np.abs(low - mean), np.abs(high - mean)))
        squares = RowSum()
        for block in blocks():
            np.subtract(block, mean, out=block)
            np.divide(block, unit, out=block)
            squares.add(np.square(block, out=block))
        spread = unit * np.sqrt(squares.mean)
        return cls(np.where(constant, first, mean), np.where(constant, 1.0, spread), low, high)

    @classmethod
    def of_shares(cls, shares: Array, *, standardize: bool = True) -> Statistics:
        """The statistics of 0/1 columns, by the share (d,) of rows in which each is 1."""
        constant = (shares == 0.0) | (shares == 1.0)
        spread = np.where(constant, 1.0, np.sqrt(shares * (1.0 - shares)))
        mean, spread = (shares, spread) if standardize else (np.zeros_like(shares), np.ones_like(shares))
        return cls(mean, spread, (shares == 1.0).astype(np.float64), (shares > 0.0).astype(np.float64))

    @classmethod
    def placed(cls, first: NDArray[np.bool_], left: Statistics, right: Statistics) -> Statistics:
        """The columns of two tables in one order: those of the left one where `first` (d,) is true."""
        fields = []
        for name in cls.__dataclass_fields__:
            values = np.empty(len(first))
            values[first], values[~first] = getattr(left, name), getattr(right, name)
            fields.append(values)
        return cls(*fields)

    def all_equal(self, values: Array) -> Array:
        """(d,) whether a column holds nothing but this value."""
        equal: Array = (self.low == values) & (self.high == values)
        return equal


class RowSum:
    """A sum of rows in their order, whose bits do not depend on the blocks if there are at least two columns.

    (A single column is summed in another order, block by block, with a smaller error.)
    """

    def __init__(self) -> None:
        self._rows = 0
        self._sum: Array | None = None

    def add(self, block: Array) -> None:
        """Count in rows (n, d); the first of them is overwritten."""
        if self._sum is not None:
            block[0] += self._sum
        self._rows += len(block)
        self._sum = np.add.reduce(block, axis=0)

    @property
    def mean(self) -> Array:
        """Return the mean (d,) of the rows so far, of which there is at least one."""
        assert self._sum is not None, "there are rows"
        mean: Array = self._sum / self._rows
        return mean


def mean_and_spread(values: Array) -> tuple[Array, Array]:
    """Mean and population standard deviation of each column; a constant column has spread 1.

    Shape:
        values (n, d) → (d,), (d,).
    """
    statistics = Statistics.of(lambda: [values.copy(order="K")])
    return statistics.mean, statistics.spread
