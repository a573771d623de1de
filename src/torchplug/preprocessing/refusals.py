"""Checks that refuse columns for their type, for missing values, or for infinite values."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from torchplug.errors import DataError
from torchplug.preprocessing.rows import Rows, row_number
from torchplug.tables import enumerate_names
from torchplug.tables.text import TEXT

IMPUTE_REMEDY = "fill them in, or let --data.impute auto, mean, median, most_frequent or drop deal with them"


def refuse_type(series: pl.Series, where: str) -> None:
    """Refuse a column that is neither number, boolean nor text.

    Raises:
        DataError: naming the column and its type.
    """
    allowed = series.dtype.is_numeric() or series.dtype in (*TEXT, pl.Boolean, pl.Null)
    if not allowed:
        raise DataError(
            f"{where}: column '{series.name}' has type {series.dtype}, neither number nor category: "
            "convert it, or leave it out with exclude"
        )


def refuse_missing(columns: Iterable[pl.Series], where: str, remedy: str, rows: Rows | None = None) -> None:
    """Refuse null in any of the columns.

    Raises:
        DataError: naming each column with its count and its first row.
    """
    gaps = [
        f"{series.name} ({series.null_count()}, first in row {row_number(series.is_null(), rows)})"
        for series in columns
        if series.null_count()
    ]
    if gaps:
        raise DataError(f"{where}: missing values in {enumerate_names(gaps)}: {remedy}")


def refuse_infinite(series: pl.Series, where: str, rows: Rows | None = None) -> None:
    """Refuse ±∞ in a column, which no imputation replaces.

    Raises:
        DataError: naming the column, how many there are, and the first row.
    """
    if not series.dtype.is_float():
        return
    infinite = series.is_infinite().fill_null(False)
    if infinite.any():
        count = int(infinite.sum())
        raise DataError(
            f"{where}: column '{series.name}' has {count} infinite value{'s' if count > 1 else ''}, first in row "
            f"{row_number(infinite, rows)}: correct or leave out those rows"
        )
