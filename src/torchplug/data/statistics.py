"""Statistics of columns that are seen a piece at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.errors import DataError
from torchplug.preprocessing.columns import Array
from torchplug.preprocessing.statistics import mean_and_spread

MOST_VALUES = 2**16
"""How many different values of a column are counted at most; the memory for them must not grow with the rows."""


@dataclass(frozen=True)
class Moments:
    r"""Mean and spread of d columns, each over its own number of values, and what two pieces of a table have together.

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
        """The columns of several tables side by side."""
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
    if not len(values):
        return 0.0, 0.0, 0.0, np.inf, -np.inf
    low, high = float(values.min()), float(values.max())
    mean, spread = mean_and_spread(values[:, None])
    return len(values), float(mean[0]), 0.0 if low == high else float(spread[0]), low, high


class RunningMoments:
    """Moments of pieces that come one after the other, combined in pairs: the error grows with the logarithm of their
    number.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[int, Moments]] = []

    def add(self, piece: Moments) -> None:
        """Count another piece in."""
        level = 0
        while self._pending and self._pending[-1][0] == level:
            piece = self._pending.pop()[1] + piece
            level += 1
        self._pending.append((level, piece))

    def total(self) -> Moments:
        """The moments of all pieces so far, of which there is at least one."""
        result = self._pending[-1][1]
        for _, piece in reversed(self._pending[:-1]):
            result = piece + result
        return result


@dataclass
class ValueCounts:
    """How often each value of a column occurs.

    Args:
        name: the column.
        counts: value → occurrences.
    """

    name: str
    counts: Counter[Any] = field(default_factory=Counter)

    def add(self, series: pl.Series, where: str, remedy: str) -> None:
        """Count a piece of the column, without its missing values.

        Raises:
            DataError: if there are more different values than can be counted.
        """
        values, counts = series.drop_nulls().value_counts()
        self.counts.update(dict(zip(values.to_list(), counts.to_list(), strict=True)))
        if len(self.counts) > MOST_VALUES:
            raise DataError(f"{where}: column '{self.name}' has more than {MOST_VALUES} different values: {remedy}")

    def most_frequent(self) -> float:
        """The number that occurs most often, the smallest of equally frequent ones."""
        return float(min(self.counts, key=lambda value: (-self.counts[value], value)))


class FrequentValues:
    """How often the more frequent values of a column occur; of too many different ones the rarest so far are dropped.

    What is held is then counted too low where a value had been dropped before: `exactly` counts again.

    Attributes:
        counts: value → occurrences.
        rows: how many values there were.
        complete: whether no value was dropped.
        most: how many are held at most.
    """

    def __init__(self) -> None:
        self.most = MOST_VALUES
        self.counts: Counter[str] = Counter()
        self.rows = 0
        self.complete = True

    def add(self, series: pl.Series) -> None:
        """Count a piece of the column, without its missing values."""
        self._count(series.drop_nulls(), None)
        if len(self.counts) > self.most:
            self.complete = False
            self.counts = Counter(dict(self.counts.most_common(self.most // 2)))

    def exactly(self, pieces: Iterable[pl.Series]) -> None:
        """Count the values that are held in all pieces of the column again."""
        held, self.counts, self.rows = set(self.counts), Counter(), 0
        for series in pieces:
            self._count(series.drop_nulls(), held)

    def _count(self, present: pl.Series, wanted: Container[str] | None) -> None:
        self.rows += len(present)
        values, counts = present.value_counts()
        found = zip(values.to_list(), counts.to_list(), strict=True)
        self.counts.update({value: count for value, count in found if wanted is None or value in wanted})


class DistinctValues:
    """The different values of a column, as far as they are few.

    Attributes:
        rows: how many values there were.
        few: whether there are at most `MOST_VALUES` different ones.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.few = True
        self._values: pl.Series | None = None

    def add(self, series: pl.Series) -> None:
        """Look at a piece of the column."""
        self.rows += len(series)
        known = series if self._values is None else self._values.append(series)
        values = known.unique()
        if len(values) > MOST_VALUES:
            # the extremes stay: they say whether numbers are probabilities
            self.few, ordered = False, values.sort()
            values = ordered.head(MOST_VALUES).append(ordered.tail(1))
        self._values = values

    @property
    def values(self) -> pl.Series:
        """Each value once, of too many only some, the smallest and the largest among them."""
        assert self._values is not None, "there are pieces"
        return self._values

    def digest(self) -> pl.Series:
        """A short column that is judged as the whole one would be: by its values, and by how often they recur.

        It has the same values, each about equally often, and as many rows unless these are more than enough.
        """
        enough = 8 * MOST_VALUES
        length = min(self.rows, enough) if self.few else len(self.values)
        return self.values.gather(pl.int_range(length, eager=True) % len(self.values))


class DistinctCount:
    """How many different values a column has: exactly while they are few, else by the spacing of the smallest hashes.

        d ≈ (k − 1) / h_k,    h_k the k-th smallest of the values' hashes, uniform on (0, 1)

    The relative standard error is 1/√k, 0.4 % for the k = `MOST_VALUES` hashes that are kept.

    Attributes:
        values: how many values there were.

    Reference: Bar-Yossef et al. (2002), doi:10.1007/3-540-45726-7_1.
    """

    def __init__(self) -> None:
        self.values = 0
        self._hashes = pl.Series(dtype=pl.UInt64)

    def add(self, series: pl.Series) -> None:
        """Count a piece of the column, without missing values."""
        self.values += len(series)
        self._hashes = pl.concat([self._hashes, series.hash()]).unique().sort().head(MOST_VALUES)

    @property
    def distinct(self) -> float:
        """How many of them differ."""
        kept = len(self._hashes)
        return kept if kept < MOST_VALUES else (kept - 1) * 2.0**64 / float(self._hashes[-1])
