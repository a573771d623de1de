"""Counts of the values of a column, combined over blocks of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable
from typing import Any

import polars as pl

MOST_VALUES = 2**16
"""Maximum number of distinct values that are counted in a streamed column: memory must not grow with the rows."""


class ValueCounts:
    """Occurrences of each value of a column; if bounded, the rarest so far are dropped beyond `MOST_VALUES`.

    The count of a value that was dropped before is too low; `recount` corrects it.

    Args:
        bounded: whether the number of counted values is bounded.

    Attributes:
        most: maximum number of counted values; None: no bound.
        counts: value → occurrences.
        rows: number of values.
        complete: whether no value was dropped.
    """

    def __init__(self, *, bounded: bool) -> None:
        self.most = MOST_VALUES if bounded else None
        self.counts: Counter[Any] = Counter()
        self.rows = 0
        self.complete = True

    def update(self, present: pl.Series) -> None:
        """Count the values of a block, none of which is missing."""
        self._count(present, None)
        if self.most is not None and len(self.counts) > self.most:
            self.complete = False
            self.counts = Counter(dict(self.counts.most_common(self.most // 2)))

    def recount(self, blocks: Iterable[pl.Series]) -> None:
        """Count the values that are held again, in all blocks."""
        held, self.counts, self.rows = set(self.counts), Counter(), 0
        for present in blocks:
            self._count(present, held)

    def most_frequent(self) -> float:
        """Return the number that occurs most often, the smallest of equally frequent ones."""
        return float(min(self.counts, key=lambda value: (-self.counts[value], value)))

    def _count(self, present: pl.Series, wanted: Container[Any] | None) -> None:
        self.rows += len(present)
        values, counts = present.value_counts()
        found = zip(values.to_list(), counts.to_list(), strict=True)
        self.counts.update({value: count for value, count in found if wanted is None or value in wanted})


class DistinctValues:
    """The distinct values of a column; if bounded, at most `MOST_VALUES` and the largest.

    Args:
        bounded: whether the number of held values is bounded.

    Attributes:
        most: maximum number of held values, the largest aside; None: no bound.
        rows: number of values.
        complete: whether no value was dropped.
    """

    def __init__(self, *, bounded: bool) -> None:
        self.most = MOST_VALUES if bounded else None
        self.rows = 0
        self.complete = True
        self._values: pl.Series | None = None

    def update(self, series: pl.Series) -> None:
        """Add the values of a block."""
        self.rows += len(series)
        values = (series if self._values is None else self._values.append(series)).unique()
        if self.most is not None and len(values) > self.most:
            # the extremes stay: they decide whether numbers are probabilities
            self.complete, ordered = False, values.sort()
            values = ordered.head(self.most).append(ordered.tail(1))
        self._values = values

    @property
    def values(self) -> pl.Series:
        """Each value once; if not complete, only some, the smallest and the largest among them."""
        assert self._values is not None, "there are blocks"
        return self._values


class DistinctCount:
    """The number of distinct values of a column: exact if they are few, else from the spacing of the smallest hashes.

        d ≈ (k − 1) / h_k,    h_k the k-th smallest of the values' hashes, uniform on (0, 1)

    The relative standard error is 1/√k, 0.4 % for the k = `MOST_VALUES` hashes that are kept.

    Attributes:
        values: number of values.

    Reference: Bar-Yossef et al. (2002), doi:10.1007/3-540-45726-7_1.
    """

    def __init__(self) -> None:
        self.values = 0
        self._hashes = pl.Series(dtype=pl.UInt64)

    def add(self, series: pl.Series) -> None:
        """Count the values of a block, none of which is missing."""
        self.values += len(series)
        self._hashes = pl.concat([self._hashes, series.hash()]).unique().sort().head(MOST_VALUES)

    @property
    def distinct(self) -> float:
        """The number of distinct values."""
        kept = len(self._hashes)
        return kept if kept < MOST_VALUES else (kept - 1) * 2.0**64 / float(self._hashes[-1])
