"""The text of a CSV file: its columns before their types are decided."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from torchplug.errors import DataError
from torchplug.memory import require_memory
from torchplug.tables.csv_bytes import csv_bytes
from torchplug.tables.csv_dialect import Dialect, checked_separator, dialect_of, reader
from torchplug.tables.names import refuse_repeated
from torchplug.tables.numbers import Decimal
from torchplug.tables.polars_errors import refused_as

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": ","}
"""The separator that a file's name promises."""

_CELL_BYTES = 24
"""What polars keeps for a short text and for the number that it becomes."""

_AT_ONCE = 2**22
_DECIMAL_COMMA = r"^\s*[+-]?\d+(\.\d{3})*,\d+(e[+-]?\d+)?\s*$"
_DECIMAL_POINT = r"^\s*[+-]?\d+(,\d{3})*\.\d+(e[+-]?\d+)?\s*$"
_THOUSANDS = r"^\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*$"


@dataclass(frozen=True)
class CsvFormat:
    """How a CSV file is to be read, as far as the user has said it.

    Args:
        separator: one character between fields; None: found from the file.
        decimal: the mark before the decimals; None: found from the file.
        encoding: of the characters, by Python's name; None: found from the file.
        missing: words that stand for a missing value, beside the usual ones.
        dayfirst: whether 3/4/2020 is in April; None: refused where no value decides.
    """

    separator: str | None = None
    decimal: Decimal | None = None
    encoding: str | None = None
    missing: tuple[str, ...] = ()
    dayfirst: bool | None = None


@dataclass(frozen=True, eq=False)
class CsvText:
    """A CSV file's content.

    Args:
        frame: the columns as text; an empty field is null.
        decimal: the mark before the decimals of its numbers.
        notes: what was found out about its form and is not what its name promises, each a line.
    """

    frame: pl.DataFrame
    decimal: Decimal = "."
    notes: tuple[str, ...] = ()


def csv_suffix(path: Path) -> str:
    """The ending of a file's name in lower case, without a `.gz` after it."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def read_csv_text(path: Path, form: CsvFormat) -> CsvText:
    """The content of a CSV file.

    A first column without a name that numbers the rows, or whose values all differ, is the row index that pandas and R
    write, and is left out; so is one that R's header says nothing of. Empty columns without a name at the end come from
    separators there.

    Raises:
        DataError: if it cannot be read, holds no row, or does not fit into memory.
    """
    where = str(path)
    separator = None if form.separator is None else checked_separator(form.separator)
    content, notes = csv_bytes(path, form.encoding)
    dialect = dialect_of(content, where, separator, SEPARATORS[csv_suffix(path)])
    if not any(dialect.header):
        raise DataError(f"{where} cannot be read as CSV: it has no header")
    refuse_repeated([name for name in dialect.header if name], where)
    if not dialect.width:
        raise DataError(f"{where} has a header and no rows")
    header, width = dialect.header, len(dialect.header)
    extra = dialect.width == width + 1
    fields = _fields(content, dialect, width + extra, where)
    if extra:
        header = [*header, ""] if fields[:, -1].null_count() == fields.height else ["", *header]
    frame, left_out = _named(fields, header, where)
    if left_out:
        notes.append(left_out)
    decimal = form.decimal or _decimal(frame, dialect.separator, where)
    if decimal == dialect.separator:
        raise DataError(f"{where}: {decimal!r} cannot be both separator and decimal mark")
    if form.decimal is None and decimal == ",":
        notes.append(f"{where}: read with decimal ',' (--data.decimal)")
    return CsvText(frame, decimal, (*dialect.notes, *notes))


def _named(fields: pl.DataFrame, header: list[str], where: str) -> tuple[pl.DataFrame, str]:
    """The columns with their names, without a row index and without empty columns that have none; a note."""
    keep, note = list(range(len(header))), ""
    if not header[0] and len(header) > 1 and _is_index(fields[:, 0]):
        keep, note = keep[1:], f"{where}: the first column has no name and tells the rows apart: left out as an index"
    empty = {j for j in keep if not header[j] and fields[:, j].null_count() == fields.height}
    keep = [j for j in keep if j not in empty]
    refuse_repeated([header[j] for j in keep], where)
    return pl.DataFrame([fields[:, j].alias(header[j]) for j in keep]), note


def _is_index(series: pl.Series) -> bool:
    return series.null_count() == 0 and series.n_unique() == len(series)


# ---------------------------------------------------------------------- records


def _fields(content: bytes, dialect: Dialect, width: int, where: str) -> pl.DataFrame:
    """All fields as text, in `width` columns that are called by their number."""
    body = content[dialect.start :]
    lines = body.count(b"\n")
    require_memory(
        min(lines * width, lines + body.count(dialect.separator.encode())) * _CELL_BYTES,
        f"{where}: up to {lines} rows of {width} columns",
        "write it as Parquet, and choose columns with features, or read it in pieces with stream",
    )
    plain = _without_blank_lines(body)
    if plain is not None and _count_fields(plain, dialect.separator) == plain.count(b"\n") * width:
        with contextlib.suppress(DataError):
            return _parsed(plain, dialect.separator, width, where)
    # slower, and all of it: quotes that polars does not take, lines within values, and lines with too many fields
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(_records(content, dialect, width, where))
    return _parsed(stream.getvalue().encode(), ",", width, where)


def _parsed(body: bytes, separator: str, width: int, where: str) -> pl.DataFrame:
    schema = {str(j): pl.String for j in range(width)}
    with refused_as(where, "CSV"):
        return pl.read_csv(body, has_header=False, schema=schema, separator=separator, null_values="")


def _without_blank_lines(body: bytes) -> bytes | None:
    """The body without blank lines; None where some may be part of a value."""
    if body.startswith((b"\n", b"\r\n")) or b"\n\n" in body or b"\n\r\n" in body:
        if b'"' in body:
            return None
        body = body.replace(b"\r\n", b"\n").lstrip(b"\n")
        while b"\n\n" in body:
            body = body.replace(b"\n\n", b"\n")
    return body


def _count_fields(body: bytes, separator: str) -> int:
    """How many fields there are if quotes come in pairs; −1 where spaces before a quote make it a part of the value."""
    if b'"' not in body:
        return body.count(separator.encode()) + body.count(b"\n")
    if f'{separator} "'.encode() in body:
        return -1
    ends, lines, within = 0, 0, np.uint8(0)
    for start in range(0, len(body), _AT_ONCE):
        piece = np.frombuffer(body, dtype=np.uint8, count=min(_AT_ONCE, len(body) - start), offset=start)
        quotes = (piece == ord('"')).view(np.uint8)
        quotes[0] ^= within
        inside = np.bitwise_xor.accumulate(quotes)
        within = inside[-1]
        outside = inside == 0
        newlines = piece == ord("\n")
        lines += int(np.count_nonzero(newlines & ~outside))
        ends += int(np.count_nonzero(((piece == ord(separator)) | newlines) & outside))
    # line feeds within values are no records: what is compared with counts every line
    return ends if lines == 0 else -1


def _records(content: bytes, dialect: Dialect, width: int, where: str) -> Iterator[list[str]]:
    """The records by Python's own reader.

    Raises:
        DataError: naming the first line that has another number of fields.
    """
    stream = io.TextIOWrapper(io.BytesIO(content[dialect.start :]), newline="", encoding="utf-8")
    records = reader(stream, dialect.separator, strict=True)
    try:
        for record in records:
            if not record or (len(record) == 1 < width and not record[0].strip()):
                continue
            if len(record) != width:
                line = dialect.lines + records.line_num
                number = "1 field" if len(record) == 1 else f"{len(record)} fields"
                raise DataError(
                    f"{where}: line {line} has {number}, and the header {len(dialect.header)}: correct the line, or "
                    "name what separates fields in --data.separator"
                )
            yield record
    except csv.Error as error:
        line = dialect.lines + records.line_num
        raise DataError(f"{where} cannot be read as CSV: {error}, in the record that ends in line {line}") from error


# ---------------------------------------------------------------------- decimals


def _decimal(frame: pl.DataFrame, separator: str, where: str) -> Decimal:
    """The decimal mark: a comma where values have one and none has a point, and commas cannot be between thousands."""
    if separator == ",":
        return "."
    ambiguous = None
    comma = point = False
    for series in frame:
        if not series.str.contains(",", literal=True).any():
            point = point or bool(series.str.contains(_DECIMAL_POINT).any())
            continue
        thousands = series.str.contains(_THOUSANDS)
        comma = comma or bool((series.str.contains(_DECIMAL_COMMA) & ~thousands).any())
        point = point or bool((series.str.contains(_DECIMAL_POINT)).any())
        if thousands.any() and ambiguous is None:
            ambiguous = series.filter(thousands)[0], series.name
    if comma and not point:
        return ","
    if ambiguous is not None and not point:
        value, name = ambiguous
        raise DataError(
            f"{where}: '{value}' in column '{name}' may be thousands or have decimals: set --data.decimal to . or ,"
        )
    return "."
