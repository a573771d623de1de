"""A Parquet file that is read a block at a time and never held in memory."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from torchplug.errors import DataError
from torchplug.preprocessing.blocks import BLOCK_NUMBERS, intervals, rows_of
from torchplug.tables import BUNDLED, Types, describe, fingerprint, is_parquet, require_file, shown, with_types
from torchplug.tables.csv_dialect import promised_separator
from torchplug.tables.parquet_dictionaries import dictionaries
from torchplug.tables.parquet_memory import ParquetMemory, require_names
from torchplug.tables.polars_errors import refused_as
from torchplug.tables.text import require_text_memory

_FILE_BLOCK_NUMBERS = 2**21
"""How many numbers a block holds: 16 MiB in double precision."""


def file_block_rows(columns: int) -> int:
    """How many rows of this many columns are read at once: a power of two."""
    return rows_of(_FILE_BLOCK_NUMBERS, columns)


class ParquetTable:
    """Rows of a Parquet file by their position; row groups and pages that hold none of them are not read.

    Args:
        source: a path that ends in .parquet.

    Raises:
        DataError: for any other source; when the file is first read, if it cannot be; later, if it has changed.
    """

    def __init__(self, source: Any) -> None:
        self.path = describe(source)
        if not isinstance(source, str):
            raise DataError(f"stream reads a Parquet file, not {self.path}: leave stream out for a table in memory")
        if source in BUNDLED:
            raise DataError(f"stream reads a Parquet file, and {source} is a bundled set: leave stream out")
        promised = promised_separator(Path(source))
        if promised is not None:
            name = Path(source).name
            better = shown(Path(name.removesuffix(".gz")).with_suffix(".parquet"), 255)
            separator = ', separator="\\t"' if promised == "\t" else ""
            raise DataError(
                f"stream reads Parquet files, and {shown(source, 255)} is CSV: write it once as Parquet, "
                f"with polars.scan_csv('{shown(name, 255)}'{separator}).sink_parquet('{better}')"
            )
        if not is_parquet(source):
            raise DataError(f"stream reads Parquet files, and {shown(source, 255)} does not end in .parquet")
        self._state: tuple[int, int] | None = None
        self._types: Types = {}

    form_notes = type_notes = ()
    """Nothing: the file itself says what its columns are."""

    def typed(self, types: Types) -> ParquetTable:
        """A copy of this file's record, with the types of columns that are decided already."""
        table = ParquetTable(self.path)
        table._types = types
        return table

    @functools.cached_property
    def head(self) -> pl.DataFrame:
        """A frame of the file's columns and types, without rows."""
        schema = self._schema
        require_names(list(schema), self.path)
        return self._as_said(pl.DataFrame(schema=schema))

    def _as_said(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows with the types that the file or the user says."""
        return with_types(frame, {**self._dictionaries, **self._types})

    @functools.cached_property
    def _dictionaries(self) -> Types:
        return dictionaries(Path(self.path))

    @functools.cached_property
    def height(self) -> int:
        """The number of rows, at least 1."""
        columns = self.head.columns
        rows = int(self._collect(self._scan.select(pl.len())).item())
        if rows == 0:
            raise DataError(f"{self.path} has {rows} rows and {len(columns)} columns: nothing to read")
        return rows

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pl.DataFrame:
        """Rows `start` to `stop`, counted from 0, of some columns.

        Raises:
            DataError: if they do not fit into memory.
        """
        self._memory.require(start, stop, columns)
        frame = self._collect(self._scan.select(columns).slice(start, stop - start))
        require_text_memory(frame, self.place(start, stop))
        return self._as_said(frame)

    def blocks(self, columns: Sequence[str], size: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """All rows of some columns, `size` at a time: where each block begins, and its rows."""
        # more at once: a page of the file is decoded for each read that touches it
        for start, stop in intervals(self.height, max(size, 2 * file_block_rows(len(columns)))):
            frame = self.read(start, stop, columns)
            for first, last in intervals(frame.height, size):
                yield start + first, frame[first:last]
            del frame

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Some columns with all rows, one at a time; of short ones several are read together."""
        for first, last in intervals(len(names), max(1, BLOCK_NUMBERS // self.height)):
            yield from self.read(0, self.height, names[first:last]).get_columns()

    def place(self, start: int, stop: int) -> str:
        """How messages name these rows."""
        return self.path if stop - start == self.height else f"{self.path}, rows {start + 1} to {stop}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the content, block by block: names, types and values, however the file stores them.

        It is not that of the same table in memory, whose columns are hashed one after the other.
        """
        columns = self.head.columns
        digest = hashlib.sha256(f"{self.height} rows in pieces".encode())
        for start, stop in intervals(self.height, file_block_rows(len(columns))):
            digest.update(fingerprint(self.read(start, stop, columns)).encode())
        return digest.hexdigest()

    @functools.cached_property
    def _scan(self) -> pl.LazyFrame:
        # one for all reads: it keeps what it has read of the file's footer
        return pl.scan_parquet(self.path, glob=False, hive_partitioning=False)

    @functools.cached_property
    def _schema(self) -> pl.Schema:
        require_file(Path(self.path))
        with refused_as(self.path, "Parquet"):
            self._refuse_change()
            return self._scan.collect_schema()

    @functools.cached_property
    def _memory(self) -> ParquetMemory:
        return ParquetMemory(Path(self.path), self._schema)

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        with refused_as(self.path, "Parquet"):
            self._refuse_change()
            return rows.collect()

    def _refuse_change(self) -> None:
        """Rows that are read again must be those that were read before."""
        status = os.stat(self.path)
        state = status.st_mtime_ns, status.st_size
        if self._state not in (None, state):
            raise DataError(f"{self.path} has changed since it was first read: make a new data module for it")
        self._state = state
