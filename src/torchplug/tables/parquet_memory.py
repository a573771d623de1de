"""Estimated memory for reading rows of a Parquet file, from its footer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.errors import DataError
from torchplug.memory import require_memory
from torchplug.tables.names import refuse_repeated
from torchplug.tables.parquet_footer import row_groups

_NUMBER_BYTES = 8
_TEXT_BYTES = 16
"""What polars keeps for a number, and for a text beside its characters."""


def require_names(names: Collection[str], where: str) -> None:
    """Refuse a Parquet file without columns, and names that are repeated or empty.

    Raises:
        DataError: in one line.
    """
    if not names:
        raise DataError(f"{where} has no columns: nothing to read")
    refuse_repeated(list(names), where)


@dataclass(frozen=True)
class _Reading:
    """What reading some columns takes: bytes for each row, and (groups,) for each row group that is read from, of texts
    and as the file has them.
    """

    row: int
    texts: NDArray[np.int64]
    compressed: NDArray[np.int64]


class ParquetMemory:
    """The memory that reading takes.

    Polars reads the columns of a row group whole before it decodes the rows that are asked for; the texts of a row
    group can lie in one page.

    Args:
        path: the file.
        schema: its columns and their types.
    """

    def __init__(self, path: Path, schema: Mapping[str, pl.DataType]) -> None:
        self._path = path
        self._schema = schema
        self._groups = row_groups(path)
        # (groups + 1,) where each begins
        self._starts = np.cumsum([0, *(group.rows for group in self._groups)])
        self._readings: dict[tuple[str, ...], _Reading] = {}

    def require(self, start: int, stop: int, columns: Sequence[str]) -> None:
        """Refuse to read rows `start` to `stop` of these columns if there is not enough memory.

        Raises:
            DataError: naming rows, columns, sizes and the remedy.
        """
        reading = self._reading(tuple(columns))
        first = max(0, int(np.searchsorted(self._starts, start, side="right")) - 1)
        last = int(np.searchsorted(self._starts, stop))
        groups = f"{last - first} row groups" if last - first > 1 else "a row group"
        rows = stop - start
        remedy = "leave columns out of the file, or split it by rows"
        if last - first <= 1:
            remedy = "write the file with smaller row groups (row_group_size of polars' write_parquet)"
        require_memory(
            rows * reading.row + int(reading.texts[first:last].sum() + reading.compressed[first:last].max(initial=0)),
            f"{self._path}: reading {rows} rows of {len(columns)} column{'s' * (len(columns) > 1)} from {groups}",
            remedy,
        )

    def _reading(self, columns: tuple[str, ...]) -> _Reading:
        if columns not in self._readings:
            texts = [name for name in columns if not _is_fixed(self._schema[name])]
            self._readings[columns] = _Reading(
                _NUMBER_BYTES * (len(columns) - len(texts)) + _TEXT_BYTES * len(texts),
                self._sums([group.uncompressed for group in self._groups], texts),
                self._sums([group.compressed for group in self._groups], columns),
            )
        return self._readings[columns]

    @staticmethod
    def _sums(sizes: Sequence[Mapping[str, int]], columns: Sequence[str]) -> NDArray[np.int64]:
        return np.array([sum(group.get(name, 0) for name in columns) for group in sizes], dtype=np.int64)


def _is_fixed(kind: pl.DataType) -> bool:
    """Whether values take a number's memory, categories among them, whose texts are kept once."""
    return kind.is_numeric() or kind.is_temporal() or kind in (pl.Boolean, pl.Categorical, pl.Enum, pl.Null)
