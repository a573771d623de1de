"""The text columns of a CSV file, before their types are decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from torchplug.tables.csv_bytes import csv_bytes
from torchplug.tables.csv_decimal import find_decimal
from torchplug.tables.csv_dialect import find_dialect, promised_separator, require_separator
from torchplug.tables.csv_encoding import as_utf8
from torchplug.tables.csv_rows import read_rows
from torchplug.tables.numbers import Decimal


@dataclass(frozen=True)
class CsvFormat:
    """The user's settings for reading a CSV file.

    Args:
        separator: one character between fields; None: detected.
        decimal: the decimal mark; None: detected.
        encoding: Python's name of it; None: detected.
        missing: words for a missing value, in addition to the usual ones.
        dayfirst: whether 3/4/2020 is in April; None: refused if no value decides.
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
        decimal: the decimal mark of its numbers.
        notes: detected properties that the file's name does not promise, each a line.
    """

    frame: pl.DataFrame
    decimal: Decimal = "."
    notes: tuple[str, ...] = ()


def read_csv_text(path: Path, form: CsvFormat) -> CsvText:
    """The content of a CSV file.

    Blank lines are skipped, as pandas and R do.

    Raises:
        DataError: if it cannot be read, holds no row, or does not fit into memory.
    """
    where = str(path)
    given = None if form.separator is None else require_separator(form.separator)
    content, encoding_notes = as_utf8(csv_bytes(path), form.encoding, where)
    dialect = find_dialect(content, given, promised_separator(path) or ",", where)
    frame, index_notes = read_rows(content, dialect, where)
    notes = (*encoding_notes, *dialect.notes, *index_notes)
    if form.decimal is not None:
        return CsvText(frame, form.decimal, notes)
    if dialect.separator == "," or b"," not in content:
        return CsvText(frame, ".", notes)
    decimal, decimal_notes = find_decimal(frame, where)
    return CsvText(frame, decimal, (*notes, *decimal_notes))
