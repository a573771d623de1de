"""The rows of a CSV file as columns of text."""

from __future__ import annotations

import csv
import io
import re
from typing import NoReturn

import numpy as np
import polars as pl

from torchplug.errors import DataError
from torchplug.memory import require_memory
from torchplug.tables.csv_dialect import Dialect
from torchplug.tables.csv_records import Record, lines_of, records, unclosed
from torchplug.tables.polars_errors import refused_as

_VIEW_BYTES = 16
"""What polars keeps for a value of text, beside its characters where these are more than 12."""

_QUOTE = ord('"')
_CHUNK = 2**22


def read_rows(content: bytes, dialect: Dialect, where: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the columns as text, with null for empty fields, and a note if the first one is dropped as an index.

    Args:
        content: of the file, in UTF-8.
        dialect: its dialect.
        where: the file's name, for messages.

    Raises:
        DataError: for a row without the header's fields, a quote that is never closed, a column without a name that
            has values, or what does not fit into memory.
    """
    _require_cells(content, dialect, where)
    frame = _read_as_is(content, dialect, where)
    if frame is None:
        frame = _read_rewritten(content, dialect, where)
    return _with_names(frame, dialect, where)


def _require_cells(content: bytes, dialect: Dialect, where: str) -> None:
    """Refuse a table whose cells do not fit into memory: a short line can have thousands of missing values."""
    lines = (content.count(b"\n") or content.count(b"\r")) + (not content.endswith((b"\n", b"\r")))
    cells = lines * len(dialect.names)
    if cells > len(content):
        # most rows are shorter than the header
        cells = min(cells, lines + content.count(dialect.separator.encode()))
    require_memory(
        cells * _VIEW_BYTES,
        f"{where}: up to {lines - dialect.lines} rows of {len(dialect.names)} columns",
        "write it as Parquet, and choose columns with features, or read it in pieces with stream",
    )


def _read_as_is(content: bytes, dialect: Dialect, where: str) -> pl.DataFrame | None:
    """The rows as read by polars, which is fast; None if they might differ from the records."""
    separator = dialect.separator.encode()
    quoted = b'"' in content
    if len(separator) > 1 or (quoted and not _quotes_enclose_values(content, separator)):
        return None
    if b"\r" in content and content.count(b"\r") != content.count(b"\r\n"):
        if quoted:
            # within quotes a carriage return is a value's
            return None
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    start = 0
    for _ in range(dialect.lines):
        start = content.find(b"\n", start) + 1
        if not start:
            return _no_rows(dialect)
    if content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n") + b"\n"
    frame = _parsed(content, dialect, dialect.lines, where)
    if frame is not None and _has_all_fields(frame, content, start, separator, quoted):
        return frame
    if quoted:
        # a blank line within quotes is a value's
        return None
    rows = content[start:]
    blank = rb"(?m)^\r?\n" if separator in b" \t" else rb"(?m)^[ \t]*\r?\n"
    without_blanks = re.sub(blank, b"", rows)
    if len(without_blanks) == len(rows):
        return None
    frame = _parsed(without_blanks, dialect, 0, where)
    return frame if frame is not None and _has_all_fields(frame, without_blanks, 0, separator, quoted) else None


def _parsed(content: bytes, dialect: Dialect, skipped: int, where: str) -> pl.DataFrame | None:
    """The rows that polars reads below some lines; None if it fails, as for rows that are too long."""
    try:
        with refused_as(where, "CSV"):
            return _by_polars(content, dialect.separator, len(dialect.names), skipped)
    except DataError:
        return None


def _by_polars(content: bytes, separator: str, width: int, skipped: int = 0) -> pl.DataFrame:
    schema = {str(j): pl.String for j in range(width)}
    return pl.read_csv(
        content, separator=separator, has_header=False, skip_lines=skipped, schema=schema, null_values=""
    )


def _no_rows(dialect: Dialect) -> pl.DataFrame:
    return pl.DataFrame(schema={str(j): pl.String for j in range(len(dialect.names))})


def _has_all_fields(frame: pl.DataFrame, content: bytes, start: int, separator: bytes, quoted: bool) -> bool:
    """Whether each row has all its fields; polars fills short ones, and blank lines, with missing values."""
    last = frame.to_series(frame.width - 1)
    if frame.width == 1:
        return not last.null_count() and not (last.str.strip_chars() == "").any()
    if not last.null_count():
        return True
    found = content.count(separator, start)
    if quoted:
        within = pl.all().str.count_matches(separator.decode(), literal=True).cast(pl.UInt64).sum()
        found -= sum(count or 0 for count in frame.select(within).row(0))
    return found == frame.height * (frame.width - 1)


def _quotes_enclose_values(content: bytes, separator: bytes) -> bool:
    """Whether quotes occur only around values, and doubled within them, as polars assumes."""
    values = np.frombuffer(content, np.uint8)
    opens_after, closes_before = np.zeros(256, bool), np.zeros(256, bool)
    opens_after[[*separator, *b'\r\n"']] = closes_before[[*separator, *b'\r\n"']] = True
    inside = 0
    for start in range(0, len(values), _CHUNK):
        places = np.flatnonzero(values[start : start + _CHUNK] == _QUOTE) + start
        opening, closing = places[inside::2], places[1 - inside :: 2]
        if not opens_after[values[opening[opening > 0] - 1]].all():
            return False
        if not closes_before[values[closing[closing + 1 < len(values)] + 1]].all():
            return False
        inside = (inside + len(places)) % 2
    return not inside


def _read_rewritten(content: bytes, dialect: Dialect, where: str) -> pl.DataFrame:
    """The rows read record by record, which is slower and supports all forms of quotes.

    Raises:
        DataError: for the first line whose record lacks the header's fields, and for an unclosed quote.
    """
    require_memory(3 * len(content), f"{where}: reading it line by line", "write it as Parquet")
    width = len(dialect.names)
    out = io.BytesIO()
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    lines = lines_of(content)
    for _ in range(dialect.lines):
        next(lines)
    for record in records(lines, dialect.separator, dialect.lines):
        if not record.closed:
            raise unclosed(record, where)
        if not dialect.suits(record.fields):
            _refuse_ragged(record, dialect, where)
        writer.writerow([*record.fields, *[""] * (width - len(record.fields))][:width])
    text.flush()
    if not out.tell():
        return _no_rows(dialect)
    with refused_as(where, "CSV"):
        return _by_polars(out.getvalue(), ",", width)


def _refuse_ragged(record: Record, dialect: Dialect, where: str) -> NoReturn:
    count, header = len(record.fields), len(dialect.header)
    fields = f"{count} {'field' if count == 1 else 'fields'}"
    names = f"{header} and no name for the first column" if len(dialect.names) > header else f"{header}"
    until = f", up to line {record.last} within quotes," if record.last > record.first else ""
    raise DataError(
        f"{where} cannot be read as CSV: line {record.first}{until} has {fields}, and the header {names}: correct it, "
        f"or give --data.separator if {dialect.separator!r} does not separate the fields"
    )


def _with_names(frame: pl.DataFrame, dialect: Dialect, where: str) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """The columns by their names, without those that have none: an index, and empty ones, as after a last separator.

    Raises:
        DataError: for a column without a name that has values.
    """
    named = {}
    for position, name in enumerate(dialect.names):
        column = frame.to_series(position)
        if name:
            named[name] = column
        elif (column.str.strip_chars() != "").any():
            raise DataError(
                f"column {position + 1} of {where} has no name, and values: name it, or leave it out of the file"
            )
    if dialect.has_row_names and frame.to_series(0).is_unique().all() and not frame.to_series(0).null_count():
        del named[dialect.names[0]]
        return pl.DataFrame(named), ("the first column has no name and numbers the rows: left out as an index",)
    return pl.DataFrame(named), ()
