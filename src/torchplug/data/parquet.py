"""A Parquet file that is read a piece at a time and never held in memory."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from torchplug.errors import DataError
from torchplug.tables import BUNDLED, describe, fingerprint

_CHUNK_NUMBERS = 2**21
"""How many numbers a piece holds: 16 MiB in double precision."""


def chunk_rows(columns: int) -> int:
    """How many rows of this many columns are read at once: a power of two."""
    return 1 << max(0, (_CHUNK_NUMBERS // columns).bit_length() - 1)


class ParquetTable:
    """Rows of a Parquet file by their position; row groups and pages that hold none of them are not read.

    Args:
        source: a path that ends in .parquet.

    Raises:
        DataError: for any other source; when the file is first read, if it cannot be.
    """

    def __init__(self, source: Any) -> None:
        self.path = describe(source)
        if not isinstance(source, str):
            raise DataError(f"stream reads a Parquet file, not {self.path}: leave stream out for a table in memory")
        if source in BUNDLED:
            raise DataError(f"stream reads a Parquet file, and {source} is a bundled set: leave stream out")
        suffix = Path(source).suffix.lower()
        if suffix in (".csv", ".tsv", ".txt"):
            better = Path(source).with_suffix(".parquet").name
            separator = ', separator="\\t"' if suffix == ".tsv" else ""
            raise DataError(
                f"stream reads Parquet files, and {source} is CSV: write it once as Parquet, "
                f"with polars.scan_csv('{Path(source).name}'{separator}).sink_parquet('{better}')"
            )
        if suffix not in (".parquet", ".pq"):
            raise DataError(f"stream reads Parquet files, and {source} does not end in .parquet")

    @functools.cached_property
    def head(self) -> pl.DataFrame:
        """A frame of the file's columns and types, without rows."""
        if not Path(self.path).is_file():
            raise DataError(f"no file {self.path}")
        return self._collect(self._scan().head(0))

    @functools.cached_property
    def height(self) -> int:
        """The number of rows, at least 1."""
        columns = self.head.columns
        rows = int(self._collect(self._scan().select(pl.len())).item()) if columns else 0
        if rows == 0:
            raise DataError(f"{self.path} has {rows} rows and {len(columns)} columns: nothing to read")
        return rows

    def read(self, start: int, stop: int, columns: Sequence[str]) -> pl.DataFrame:
        """Rows `start` to `stop`, counted from 0, of some columns."""
        return self._collect(self._scan().select(columns).slice(start, stop - start))

    def intervals(self, rows: int) -> Iterator[tuple[int, int]]:
        """Cut the file into pieces of so many rows, the last perhaps shorter: (start, stop) of each."""
        for start in range(0, self.height, rows):
            yield start, min(start + rows, self.height)

    def place(self, start: int, stop: int) -> str:
        """How messages name these rows."""
        return self.path if stop - start == self.height else f"{self.path}, rows {start + 1} to {stop}"

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the content, piece by piece: names, types and values, however the file stores them.

        It is not that of the same table in memory, whose columns are hashed one after the other.
        """
        columns = self.head.columns
        digest = hashlib.sha256(f"{self.height} rows in pieces".encode())
        for start, stop in self.intervals(chunk_rows(len(columns))):
            digest.update(fingerprint(self.read(start, stop, columns)).encode())
        return digest.hexdigest()

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(self.path, glob=False, hive_partitioning=False)

    def _collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        try:
            return rows.collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"{self.path} cannot be read as Parquet: {reason}") from error
