"""Tables that are read some rows at a time, whatever they are: files, arrays or frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.data.parquet import ParquetTable
from torchplug.preprocessing.blocks import block_rows, intervals
from torchplug.preprocessing.rows import Rows
from torchplug.tables import (
    BUNDLED,
    Column,
    CsvFormat,
    Types,
    as_series,
    as_type,
    columns_of,
    is_parquet,
    read,
    read_file,
)

_ROWS_GATHERED, _COLUMNS_GATHERED = 2048, 32
"""How much of scattered columns is copied together: what caches hold."""


class Table(Protocol):
    """Rows that are read by their position."""

    @property
    def head(self) -> pl.DataFrame:
        """The columns and their types, without rows."""
        ...

    @property
    def height(self) -> int:
        """The number of rows."""
        ...

    @property
    def form_notes(self) -> Sequence[str]:
        """How a file is written, where that is not what its name says, each a line."""
        ...

    @property
    def type_notes(self) -> Sequence[str]:
        """What was made of a file's columns, each a line."""
        ...

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pl.DataFrame:
        """Rows `start` to `stop`, counted from 0, of some columns."""
        ...

    def blocks(self, columns: Sequence[str], size: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """All rows of some columns, `size` at a time: where each block begins, and its rows."""
        ...

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Some columns with all rows, one at a time."""
        ...


class MemoryTable:
    """A table in memory, which is left as it is: frames are made of the rows that are read.

    Args:
        source: what `columns_of` takes.
        types: of columns whose type is decided already.
        form_notes: how a file is written, where that is not what its name says.
        type_notes: what was made of a file's columns.

    Attributes:
        head: the columns and their types, without rows.
        height: the number of rows.
    """

    def __init__(
        self, source: Any, types: Types | None = None, form_notes: Sequence[str] = (), type_notes: Sequence[str] = ()
    ) -> None:
        self.form_notes = form_notes
        self.type_notes = type_notes
        self._columns = columns_of(source)
        for name in self._columns.keys() & {name for name, known in (types or {}).items() if known == pl.String}:
            self._columns[name] = as_type(as_series(name, self._columns[name]), pl.String)
        self.height = len(next(iter(self._columns.values())))
        self.head = self.read(0, 0, list(self._columns))

    def convert(self) -> None:
        """Convert every column once, at the cost of a copy: for tables that are read many times."""
        names = [*self._columns]
        for start, stop in intervals(len(names), _COLUMNS_GATHERED):
            some = _gathered({name: self._columns[name] for name in names[start:stop]})
            self._columns.update({name: as_series(name, column) for name, column in some.items()})

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pl.DataFrame:
        """Rows `start` to `stop`, counted from 0, of some columns."""
        if (start, stop) == (0, self.height):
            return pl.DataFrame(list(self.columns(columns)))
        return pl.DataFrame([as_series(name, self._columns[name][start:stop]) for name in columns])

    def blocks(self, columns: Sequence[str], size: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """All rows of some columns, `size` at a time: where each block begins, and its rows."""
        for start, stop in intervals(self.height, size):
            yield start, self.read(start, stop, columns)

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Some columns with all rows, one at a time."""
        return (as_series(name, self._columns[name]) for name in names)


def _gathered(columns: Mapping[str, Column]) -> dict[str, Column]:
    """Columns in one piece each: those of an array's rows are copied by blocks of rows, which stay in the cache."""
    scattered = {
        name: column
        for name, column in columns.items()
        if isinstance(column, np.ndarray) and not column.flags.c_contiguous
    }
    copies = {name: np.empty(column.shape, column.dtype) for name, column in scattered.items()}
    for start, stop in intervals(max(map(len, copies.values()), default=0), _ROWS_GATHERED):
        for name, column in scattered.items():
            copies[name][start:stop] = column[start:stop]
    return {**columns, **copies}


def open_table(source: Any, form: CsvFormat | None = None, types: Types | None = None) -> Table:
    """A source as a table. A Parquet file of more than a block stays where it is; other files are read.

    Args:
        source: what `torchplug.tables.read` takes.
        form: of a CSV file, as far as the user has said it.
        types: of columns whose type is decided already.

    Raises:
        DataError: if there is no such file, if it cannot be read, or if it holds no row.
    """
    types = types or {}
    if is_parquet(source):
        file = ParquetTable(os.fspath(source)).typed(types)
        columns = file.head.columns
        return file if file.height > block_rows(len(columns)) else MemoryTable(file.read(0, file.height, columns))
    if isinstance(source, str | os.PathLike) and source not in BUNDLED:
        table = read_file(Path(source), form or CsvFormat(), types)
        return MemoryTable(table.frame, None, table.form_notes, table.type_notes)
    return MemoryTable(read(source) if isinstance(source, str) else source, types)


class Block(NamedTuple):
    """Some of the rows that are used.

    Args:
        frame: the rows.
        first: which of the used rows the first one is, from 0.
        places: where they stand in the table, from 0.
    """

    frame: pl.DataFrame
    first: int
    places: Rows


@dataclass(frozen=True)
class UsedRows:
    """A table's rows, without those that are left out.

    Args:
        table: the table.
        where: its name, for messages.
        places: where in it they stand, from 0, ascending; None: all are used.
    """

    table: Table
    where: str
    places: Rows | None = None

    def __len__(self) -> int:
        return self.table.height if self.places is None else len(self.places)

    def numbers(self, drawn: Rows | None = None) -> NDArray[np.int64]:
        """Where in the table all rows stand, or those drawn from them, counted from 0."""
        rows = np.arange(len(self)) if drawn is None else drawn
        return (rows if self.places is None else self.places[rows]).astype(np.int64)

    def select(self, columns: Sequence[str], drawn: Rows | None = None) -> pl.DataFrame:
        """Some columns of all rows, or of those drawn from them."""
        rows = drawn if self.places is None else self.places if drawn is None else self.places[drawn]
        frame = self.table.read(0, self.table.height, columns)
        return frame if rows is None else frame[rows]

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Some columns with all rows, one at a time."""
        for series in self.table.columns(names):
            yield series if self.places is None else series[self.places]

    def blocks(self, columns: Sequence[str], size: int) -> Iterator[Block]:
        """All rows of some columns, at most `size` at a time."""
        for start, frame in self.table.blocks(columns, size):
            stop = start + frame.height
            if self.places is None:
                yield Block(frame, start, np.arange(start, stop))
                continue
            first, last = span(self.places, start, stop)
            if first < last:
                places = self.places[first:last]
                yield Block(frame[places - start], first, places)


def span(rows: Rows, start: int, stop: int) -> tuple[int, int]:
    """Where among ascending row numbers those from `start` to `stop` begin and end."""
    # bounds of another type would have all numbers converted
    first, last = np.searchsorted(rows, np.array([start, stop], dtype=rows.dtype))
    return int(first), int(last)


def has_value(series: pl.Series) -> NDArray[np.bool_]:
    """Where a column has a value, (n,)."""
    values = series.fill_nan(None) if series.dtype.is_float() else series
    present: NDArray[np.bool_] = values.is_not_null().to_numpy()
    return present
