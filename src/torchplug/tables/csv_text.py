"""The text of a CSV file: in which form it is written, and its columns before their types are decided."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from torchplug.errors import DataError
from torchplug.memory import require_memory
from torchplug.tables.names import refuse_repeated
from torchplug.tables.numbers import Decimal
from torchplug.tables.polars_errors import refused_as

SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": ","}
"""The separator that a file's name promises."""

_HEADER_BYTES = 2**26
"""The longest first line of a CSV file that is taken for a header: 64 MiB, some millions of names."""

_NUMBER_BYTES = 8
"""What polars keeps for a number."""


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


def read_csv_text(path: Path, form: CsvFormat) -> CsvText:
    """The content of a CSV file.

    Raises:
        DataError: if it cannot be read, holds no row, or does not fit into memory.
    """
    separator = form.separator or SEPARATORS[path.suffix.lower()]
    content = _content(path)
    header = _header(path, content, separator)
    # polars renames repeated and empty names without a word, so the header is checked first
    refuse_repeated(header, str(path))
    lines = content.count(b"\n")
    cells = min(lines * len(header), lines + content.count(separator.encode()))
    require_memory(
        cells * _NUMBER_BYTES,
        f"{path}: up to {lines - 1} rows of {len(header)} columns",
        "write it as Parquet, and choose columns with features, or read it in pieces with stream",
    )
    with refused_as(str(path), "CSV"):
        frame = pl.read_csv(content, separator=separator, infer_schema=False, null_values="")
    return CsvText(frame)


def _content(path: Path) -> bytes:
    """A file's bytes, lines ended by a line feed, and without blank lines at the end, which are no rows."""
    length = path.stat().st_size
    require_memory(
        2 * length,
        f"{path}: reading a CSV file of {length} bytes",
        "write it as Parquet (polars.scan_csv(…).sink_parquet(…)), and read it in pieces with stream",
    )
    with refused_as(str(path), "CSV"):
        content = path.read_bytes()
    if (position := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        raise DataError(f"{path} has a NUL byte in line {line}, so it is no UTF-8 text: it is damaged, or in UTF-16")
    if b"\r" in content and b'"' not in content:
        # within quotes a carriage return is a value's
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content.endswith(b"\n") or content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n") + b"\n"
    return content


def _header(path: Path, content: bytes, separator: str) -> list[str]:
    if content.find(b"\n", 0, _HEADER_BYTES) < 0 and len(content) > _HEADER_BYTES:
        raise DataError(f"{path}: its first line has more than {_HEADER_BYTES // 2**20} MiB, which is no header")
    lines = io.TextIOWrapper(io.BytesIO(content), newline="", encoding="utf-8-sig")
    try:
        return next(csv.reader(lines, delimiter=separator), [])
    except csv.Error as error:
        limit = csv.field_size_limit()
        raise DataError(
            f"{path} cannot be read as CSV: its header has a quote that is never closed, or a name of more than "
            f"{limit} characters"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
