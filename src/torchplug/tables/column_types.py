"""Types of text columns: numbers, booleans, dates, times or categories, decided on all values of a column."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import polars as pl

from torchplug.errors import DataError
from torchplug.tables.dates import as_dates
from torchplug.tables.names import shown
from torchplug.tables.numbers import LEADING_ZERO, MISSING_NUMBERS, Decimal, read_numbers
from torchplug.tables.plain_numbers import EXACT, plain_numbers
from torchplug.tables.text import TEXT

MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "N.A.", "n.a.", "NaN", "nan", "-NaN", "-nan"),
    *("1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN", "null", "Null", "NULL", "None", "?"),
)
"""Words for a missing value in any column of a CSV file: those of pandas, and a few more."""

Types = Mapping[str, pl.DataType | type[pl.DataType]]
"""The types of columns that are decided: String for categories, Float64, Boolean, Datetime, Time."""


@dataclass
class TypedColumns:
    """Columns of text with their types.

    Args:
        columns: numbers, booleans, dates, times, text, or of type Null where there is no value at all.
        notes: how values in unusual notation were read, each a line.
    """

    columns: list[pl.Series] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def typed_columns(
    texts: pl.DataFrame,
    where: str,
    *,
    decimal: Decimal = ".",
    missing: Collection[str] = (),
    types: Types | None = None,
    dayfirst: bool | None = None,
) -> TypedColumns:
    """Convert text columns to the types of their values.

    A column of numbers is numeric unless some have leading zeros, which makes them codes. A currency or percent sign
    that all values have, and thousands separators, are removed. Columns of dates or times of one format become these;
    everything else is text.

    Args:
        texts: the columns.
        where: the file's name, for messages.
        decimal: the decimal mark.
        missing: words for a missing value, in addition to the usual ones.
        types: of columns whose type is given, by other rows or by the user; their values must be of it.
        dayfirst: whether 3/4/2020 is in April; None: refused if no value decides.

    Raises:
        DataError: for a value that is not of its column's type, and for ambiguous dates.
    """
    words = [*MISSING, *missing]
    found = TypedColumns()
    # a word that is a number is missing, and must be looked for in each column
    together = decimal == "." and pl.Series(missing, dtype=pl.String).cast(pl.Float64, strict=False).count() == 0
    plain = plain_numbers(texts) if together else {}
    for text in texts:
        if text.name in plain and (types or {}).get(text.name, pl.Float64) == pl.Float64:
            found.columns.append(plain[text.name])
            continue
        stripped = text.str.strip_chars()
        column = _Column(stripped.set(stripped.is_in(words), None), where, decimal, dayfirst)
        known = (types or {}).get(text.name)
        found.columns.append(column.infer() if known is None else column.cast(known))
        found.notes += column.notes
    return found


class _Column:
    """A text column with values stripped and missing ones null."""

    def __init__(self, text: pl.Series, where: str, decimal: Decimal, dayfirst: bool | None) -> None:
        self._text = text
        self._where = where
        self._decimal = decimal
        self._dayfirst = dayfirst
        self.notes: list[str] = []

    def infer(self) -> pl.Series:
        """The values in the type that suits all of them."""
        text = self._text
        if not text.count():
            return text.cast(pl.Null)
        numbers = read_numbers(text, self._decimal)
        if numbers.uniform:
            if text.str.contains(LEADING_ZERO).any():
                self.notes.append(f"{text.name}: categories, as some values have leading zeros")
                return text
            if left_out := [*numbers.sign.drop_nulls().unique(), *["separators of thousands"] * numbers.grouped]:
                self.notes.append(f"{text.name}: numbers; {' and '.join(left_out)} left out")
            return _whole(numbers.values)
        if _says_truth(text):
            return text == "true"
        dates = self._dates()
        return text if dates is None else dates

    def cast(self, known: pl.DataType | type[pl.DataType]) -> pl.Series:
        """The values in a given type."""
        text = self._text
        if known == pl.String or not text.count():
            return text.cast(known)
        if known.is_temporal():
            dates = self._dates()
            if dates is None or (dates.dtype == pl.Time) != (known == pl.Time):
                self._refuse(text, "times" if known == pl.Time else "dates")
            return dates
        if _says_truth(text):
            return text == "true"
        numbers = read_numbers(text, self._decimal)
        if numbers.words.count():
            self._refuse(numbers.words, "numbers")
        return numbers.values

    def _dates(self) -> pl.Series | None:
        dated = self._text.set(self._text.is_in(list(MISSING_NUMBERS)), None)
        return as_dates(dated, self._where, self._dayfirst)

    def _refuse(self, wrong: pl.Series, expected: str) -> NoReturn:
        row = int(wrong.is_not_null().arg_true()[0])
        raise DataError(
            f"{self._where}: column '{self._text.name}' has '{shown(wrong[row])}' in row {row + 1}, where the training "
            f"data have {expected}: correct it, or name it in --data.missing if it stands for a missing value"
        )


def _says_truth(text: pl.Series) -> bool:
    return bool(text.drop_nulls().is_in(["true", "false"]).all())


def _whole(numbers: pl.Series) -> pl.Series:
    """Numbers as integers, if they all are."""
    present = numbers.drop_nulls()
    whole = (present == present.floor()) & (present.abs() < EXACT)
    return numbers.cast(pl.Int64) if whole.all() else numbers


def as_type(series: pl.Series, known: pl.DataType | type[pl.DataType] | None) -> pl.Series:
    """A typed column in a given type: numbers and booleans as categories.

    Whole numbers are written without decimals, whatever type stores them.
    """
    if known != pl.String or not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        return series
    if not series.dtype.is_float():
        return series.cast(pl.String)
    numbers = series.fill_nan(None)
    whole = (numbers == numbers.floor()) & (numbers.abs() < EXACT)
    integers = numbers.set(~whole.fill_null(False), None).cast(pl.Int64).cast(pl.String)
    return integers.zip_with(integers.is_not_null(), numbers.cast(pl.String))


def with_types(frame: pl.DataFrame, types: Types) -> pl.DataFrame:
    """Return a frame with columns of the given types."""
    named = [series for series in frame if types.get(series.name) == pl.String]
    return frame.with_columns(as_type(series, pl.String) for series in named) if named else frame


def types_of(frame: pl.DataFrame) -> Types:
    """Return the types of a frame's columns, for reading later files; columns without any value have none."""
    found: dict[str, pl.DataType | type[pl.DataType]] = {}
    for series in frame:
        kind = series.dtype
        if kind.is_numeric():
            found[series.name] = pl.Float64
        elif kind in TEXT:
            found[series.name] = pl.String
        elif kind == pl.Boolean or (kind.is_temporal() and kind != pl.Duration):
            found[series.name] = kind
    return found
