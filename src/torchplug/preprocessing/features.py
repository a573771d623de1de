"""Feature columns of a table, read by their kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import polars as pl

from torchplug.preprocessing.columns import (
    Column,
    NumericColumn,
    raw_column,
)
from torchplug.preprocessing.refusals import IMPUTE_REMEDY, refuse_missing
from torchplug.preprocessing.rows import Rows


def read_column(series: pl.Series, where: str, rows: Rows | None = None) -> pl.Series:
    """A feature column, checked by type: numbers as float64, categories as text, missing values as null.

    Raises:
        DataError: for types that are no feature, and for infinite values.
    """
    return raw_column(series).read(series, where, rows)


def read_block(
    columns: Iterable[Column], block: Sequence[pl.Series], where: str, rows: Rows | None = None
) -> Iterator[pl.Series]:
    """Some rows of feature columns, read lazily by their `Column`s.

    If there are more columns than rows, those with finite numbers only are checked together, because checking them one
    by one would dominate the time.

    Raises:
        DataError: for what `Column.read` refuses.
    """
    finite = _finite(block) if block and len(block) > len(block[0]) else {}
    for column, series in zip(columns, block, strict=True):
        together = isinstance(column, NumericColumn) and series.name in finite
        yield finite[series.name] if together else column.read(series, where, rows)


def _finite(block: Sequence[pl.Series]) -> dict[str, pl.Series]:
    """Those of the columns that are numbers without gaps and infinities, by name, as float64."""
    numbers = pl.DataFrame([series for series in block if series.dtype.is_numeric()])
    if set(numbers.dtypes) - {pl.Float64}:
        numbers = numbers.cast(pl.Float64)
    finite = np.isfinite(numbers.to_numpy()).all(axis=0)
    return {series.name: series for series, whole in zip(numbers.get_columns(), finite, strict=True) if whole}


def read_columns(columns: Iterable[pl.Series], where: str, rows: Rows | None = None) -> Iterator[pl.Series]:
    """All rows of a table's feature columns, read lazily by `read_column`.

    Raises:
        DataError: for what `read_column` refuses.
    """
    return (read_column(series, where, rows) for series in columns)


def check_columns(
    columns: Iterable[pl.Series], where: str, rows: Rows | None = None, *, complete: bool = False
) -> None:
    """Refuse all rows of the feature columns of a table for what `read_columns` refuses, a column at a time.

    Args:
        columns: as they are in the table.
        where: the table's name, for messages.
        rows: their positions in the user's table, from 0; None: all of it.
        complete: whether missing values are refused as well.

    Raises:
        DataError: naming columns, counts and rows.
    """
    series = read_columns(columns, where, rows)
    refuse_missing(series if complete else (s.head(0) for s in series), where, IMPUTE_REMEDY, rows)
