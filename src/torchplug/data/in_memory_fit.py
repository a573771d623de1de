"""The training split of a table, as preprocessing learns from it."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence

import polars as pl

from torchplug.data.table import Block, UsedRows, span
from torchplug.preprocessing import check_columns, read_columns
from torchplug.preprocessing.blocks import worded_for_all_rows
from torchplug.preprocessing.columns import PlainColumn, raw_column
from torchplug.preprocessing.features import read_block
from torchplug.preprocessing.refusals import IMPUTE_REMEDY, refuse_missing
from torchplug.preprocessing.rows import Rows


class TrainingColumns:
    """The feature columns of the rows that train; those of all other rows are checked with them.

    Args:
        used: all rows.
        features: the feature columns.
        train: which rows train, ascending from 0.
        complete: whether missing values are refused.
    """

    def __init__(self, used: UsedRows, features: Sequence[str], train: Rows, *, complete: bool) -> None:
        self._used = used
        self._features = features
        self._train = train
        self._complete = complete

    @functools.cached_property
    def raw(self) -> Sequence[PlainColumn]:
        """What the columns are, before anything is learned."""
        return [raw_column(series) for series in self._used.table.head.select(self._features)]

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Some columns whole, one at a time."""
        for series in read_columns(self._used.columns(names), self._used.where, self._used.places):
            yield series[self._train]

    def blocks(self, size: int) -> Iterator[tuple[int, Iterator[pl.Series]]]:
        """All columns, at most `size` rows at a time: how many, and the columns of these rows."""
        for block in self._used.blocks(self._features, size):
            low, high = span(self._train, block.first, block.first + block.frame.height)
            columns = self._read(block)
            if low == high:
                # nothing to learn from, and to be checked all the same
                deque(columns, maxlen=0)
                continue
            if high - low < block.frame.height:
                index = pl.Series(self._train[low:high] - block.first, dtype=pl.UInt32)
                # all at once: polars takes longer to begin than to gather the rows of a wide table's column
                columns = iter(pl.DataFrame(list(columns))[index])
            yield high - low, columns

    def _read(self, block: Block) -> Iterator[pl.Series]:
        """The columns of some rows, each checked when its turn comes."""
        where, places = self._used.where, block.places
        raw = block.frame.get_columns()
        with worded_for_all_rows(self._check):
            for values in read_block(map(raw_column, raw), raw, where, places):
                if self._complete:
                    refuse_missing([values], where, IMPUTE_REMEDY, places)
                yield values

    def _check(self) -> None:
        """Refuse what is wrong with the columns as a whole: messages count over all rows."""
        columns = self._used.columns(self._features)
        check_columns(columns, self._used.where, self._used.places, complete=self._complete)
