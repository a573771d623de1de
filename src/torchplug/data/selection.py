"""The rows of a streamed file: which are used, and which part each belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.data.parquet import ParquetTable
from torchplug.data.parts import Rows, Splitting
from torchplug.preprocessing.blocks import intervals


@dataclass(frozen=True)
class Piece:
    """Some consecutive rows of a file, those left out that are not used.

    Args:
        frame: the rows.
        rows: where they stand in the file, from 0, ascending.
        parts: which part each belongs to, as an index into `PARTS`.
        where: the piece's name, for messages.
    """

    frame: pl.DataFrame
    rows: Rows
    parts: NDArray[np.int8] | NDArray[np.int64]
    where: str

    def of(self, part: int) -> Piece:
        """The rows of one part."""
        mask = self.parts == part
        return Piece(self.frame.filter(pl.Series(mask)), self.rows[mask], self.parts[mask], self.where)


@dataclass(frozen=True)
class Selection:
    """A file's rows with the part that each belongs to, decided anew whenever they are read: nothing is kept of a row.

    Args:
        table: the file.
        dividing: the source's division, and the parts that come from other files; or the one part, as an index into
            `PARTS`, that all rows belong to.
        complete: the columns that must have a value, where rows without are dropped.
    """

    table: ParquetTable
    dividing: tuple[Splitting, Sequence[str]] | int
    complete: Sequence[str] = ()

    def read(self, start: int, stop: int, columns: Sequence[str]) -> Piece:
        """Rows `start` to `stop` of the file; the frame has these columns, and perhaps others."""
        splitting, own = self.dividing if isinstance(self.dividing, tuple) else (None, ())
        dividing = [] if splitting is None or splitting.column is None else [splitting.column]
        frame = self.table.read(start, stop, list(dict.fromkeys([*columns, *self.complete, *dividing])))
        rows, where = np.arange(start, stop), self.table.place(start, stop)
        if self.complete:
            present = ~np.any([_gaps(frame[name]) for name in self.complete], axis=0)
            frame, rows = frame.filter(pl.Series(present)), rows[present]
        if splitting is None:
            return Piece(frame, rows, np.full(len(rows), self.dividing), where)
        return Piece(frame, rows, splitting.part_of(frame, rows, own, where), where)

    def pieces(self, size: int, columns: Sequence[str]) -> Iterator[Piece]:
        """All rows, `size` of the file at a time."""
        for start, stop in intervals(self.table.height, size):
            yield self.read(start, stop, columns)


def _gaps(series: pl.Series) -> NDArray[np.bool_]:
    """Where a feature or a target has no value."""
    values = series.fill_nan(None) if series.dtype.is_float() else series
    gaps: NDArray[np.bool_] = values.is_null().to_numpy()
    return gaps
