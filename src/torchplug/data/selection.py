"""The rows of a streamed file: which are used, and the split of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.data.columns import NO_COMPLETE_ROW, no_target
from torchplug.data.parquet import ParquetTable
from torchplug.data.splitting import Rows, Splitting
from torchplug.data.table import has_value
from torchplug.errors import DataError
from torchplug.preprocessing.blocks import intervals


@dataclass(frozen=True)
class FileBlock:
    """Some consecutive rows of a file, those left out that are not used.

    Args:
        frame: the rows.
        rows: where they stand in the file, from 0, ascending.
        splits: the split of each, as an index into `SPLITS`.
        where: the block's name, for messages.
        without_target: how many rows are left out for want of a target.
    """

    frame: pl.DataFrame
    rows: Rows
    splits: NDArray[np.int8] | NDArray[np.int64]
    where: str
    without_target: int = 0

    def of(self, split: int) -> FileBlock:
        """Return the rows of one split."""
        mask = self.splits == split
        return FileBlock(self.frame.filter(pl.Series(mask)), self.rows[mask], self.splits[mask], self.where)


@dataclass(frozen=True)
class Selection:
    """A file's rows with the split that each belongs to, computed whenever they are read: nothing is kept of a row.

    Args:
        table: the file.
        dividing: the source's division, and the splits that come from other files; or the one split, as an index into
            `SPLITS`, that all rows belong to.
        target: the columns without a value in which a row is left out.
        complete: the features that must have a value, where rows without are dropped.
    """

    table: ParquetTable
    dividing: tuple[Splitting, Sequence[str]] | int
    target: Sequence[str] = ()
    complete: Sequence[str] = ()

    def read(self, start: int, stop: int, columns: Sequence[str]) -> FileBlock:
        """Rows `start` to `stop` of the file; the frame has these columns, and perhaps others."""
        splitting, own = self.dividing if isinstance(self.dividing, tuple) else (None, ())
        dividing = [] if splitting is None or splitting.column is None else [splitting.column]
        wanted = [*columns, *self.target, *self.complete, *dividing]
        frame = self.table.read(start, stop, list(dict.fromkeys(wanted)))
        rows, where = np.arange(start, stop), self.table.place(start, stop)
        present = _complete(frame, self.target)
        without_target = len(rows) - int(present.sum())
        present &= _complete(frame, self.complete)
        if not present.all():
            frame, rows = frame.filter(pl.Series(present)), rows[present]
        splits = np.full(len(rows), self.dividing) if splitting is None else splitting.split_of(frame, rows, own, where)
        return FileBlock(frame, rows, splits, where, without_target)

    def blocks(self, size: int, columns: Sequence[str]) -> Iterator[FileBlock]:
        """All rows, `size` of the file at a time."""
        for start, stop in intervals(self.table.height, size):
            yield self.read(start, stop, columns)


def _complete(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows have a value in all these columns."""
    present = np.ones(frame.height, dtype=np.bool_)
    for column in columns:
        present &= has_value(frame[column])
    return present


def refuse_no_row(selection: Selection, without_target: int) -> NoReturn:
    """Refuse a file of which no row can be used.

    Args:
        selection: its rows.
        without_target: how many rows have no target.

    Raises:
        DataError: always.
    """
    reason = no_target(selection.target) if without_target == selection.table.height else NO_COMPLETE_ROW
    raise DataError(f"{selection.table.path}: {reason}")
