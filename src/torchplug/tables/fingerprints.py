"""A hash of tables' contents, however they are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl

from torchplug.tables.text import TEXT, as_text

_ROWS_AT_ONCE = 2**16
"""How many rows of a column are hashed together."""

_BYTES_AT_ONCE = 2**24
"""How much text is hashed together, if it is not one value's: long texts that recur take little memory until then."""


def fingerprint(*frames: pl.DataFrame) -> str:
    """SHA-256 over the column names, types and values of the frames, as hexadecimal text.

    Reading the same file twice gives the same fingerprint; a changed value, name or order, or another type than a
    number's, gives another one.
    """
    return fingerprint_of_columns(*((frame.height, frame) for frame in frames))


def fingerprint_of_columns(*tables: tuple[int, Iterable[pl.Series]]) -> str:
    """The fingerprint of tables given as rows and columns, of which only one column is held at a time."""
    digest = hashlib.sha256()
    for height, columns in tables:
        digest.update(f"{height} rows".encode())
        complete = np.packbits(np.zeros(height, dtype=np.bool_)).data
        for series in columns:
            kind = series.dtype
            digest.update(f"\0{series.name}\0{'number' if kind.is_numeric() else kind}\0".encode())
            digest.update(np.packbits(series.is_null().to_numpy()).data if series.null_count() else complete)
            for content in _content(series, kind):
                digest.update(content)
    return digest.hexdigest()


def _content(series: pl.Series, kind: pl.DataType) -> Iterator[bytes | memoryview]:
    """A column's values as bytes that do not depend on how polars stores them, some rows at a time."""
    if kind.is_numeric() and not kind.is_decimal():
        for rows in _slices(series):
            present = rows.fill_null(0) if rows.null_count() else rows
            # 2 is 2.0: which of them a file's reader returns depends on the column's other values
            yield (present if kind == pl.Float64 else present.cast(pl.Float64)).to_numpy().data
        return
    # lengths first: ("ab", "c") and ("a", "bc") must differ
    yield from (_lengths(rows).data for rows in _slices(series))
    for rows in _slices(series):
        ends = _lengths(rows).cumsum() if kind in TEXT else np.zeros(0, dtype=np.int64)
        start = 0
        while start < len(rows):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + _BYTES_AT_ONCE))) if len(ends) else len(rows)
            yield b"".join(_texts(rows[start:stop]))
            start = stop


def _slices(series: pl.Series) -> Iterator[pl.Series]:
    if len(series) <= _ROWS_AT_ONCE:
        yield series
        return
    for start in range(0, len(series), _ROWS_AT_ONCE):
        yield series.slice(start, _ROWS_AT_ONCE)


def _lengths(series: pl.Series) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    if series.dtype in TEXT:
        return as_text(series).str.len_bytes().fill_null(len("None")).cast(pl.Int64).to_numpy()
    return np.array([len(text) for text in _texts(series)], dtype=np.int64)


def _texts(series: pl.Series) -> list[bytes]:
    return [str(value).encode() for value in series.to_list()]
