"""Text columns: conversion of categories, and size in bytes."""

from __future__ import annotations

import polars as pl

from torchplug.memory import require_memory

TEXT = (pl.String, pl.Categorical, pl.Enum)
"""The types of columns that are text."""


def as_text(series: pl.Series) -> pl.Series:
    """A column as text; values that are repeated share their characters.

    A cast of categories would write each value's characters again, which for few, long ones is many times the memory.
    """
    if series.dtype not in (pl.Categorical, pl.Enum):
        return series.cast(pl.String)
    levels = series.unique().drop_nulls()
    if not len(levels):
        return pl.Series(series.name, [None] * len(series), dtype=pl.String)
    places = pl.int_range(len(levels), dtype=pl.UInt32, eager=True)
    codes = series.to_physical().replace_strict(levels.to_physical(), places, return_dtype=pl.UInt32)
    return levels.cast(pl.String).gather(codes).alias(series.name)


def text_bytes(series: pl.Series) -> int:
    """The bytes of a column's text, written out, whatever its values share; 0 for other columns."""
    if series.dtype == pl.String:
        # in 64 bits: lengths have 32, and so has their sum
        return int(series.str.len_bytes().cast(pl.UInt64).sum())
    if series.dtype in (pl.Categorical, pl.Enum):
        return text_bytes(as_text(series))
    return 0


def require_text_memory(frame: pl.DataFrame, where: str) -> None:
    """Refuse text that does not fit into memory once decoded, because a small file can hold very much of it.

    Raises:
        DataError: naming the column with most text.
    """
    sizes = {series.name: text_bytes(series) for series in frame if series.dtype in TEXT}
    if not sizes:
        return
    most = max(sizes, key=lambda name: sizes[name])
    require_memory(
        sum(sizes.values()),
        f"{where}: the text of {frame.height} rows, most of it in column '{most}',",
        "shorten its values, or leave the column out of the file",
    )
