"""Columns of text that are not what they seem: identifiers of rows, and numbers with a few other words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

import polars as pl

from torchplug.data.table import Table
from torchplug.errors import DataError
from torchplug.preprocessing.blocks import block_rows
from torchplug.preprocessing.value_counts import DistinctCount
from torchplug.tables import shown
from torchplug.tables.numbers import LEADING_ZERO, Decimal, read_numbers
from torchplug.tables.text import TEXT, as_text

_IDENTIFYING = 0.95
"""Above this share of different values a column is one of identifiers."""
_FEWEST_IDENTIFIERS = 20
"""In fewer values than this, being different says nothing."""
_NEARLY_ALL = 0.9
"""From this share of numbers on, a column of text is one of numbers with a few other words."""
_MOSTLY = 0.5
"""From this share on it is, if the numbers are many different ones and the words are few: measurements, no codes."""
_MEASURED = 20
"""More different numbers than this are measurements."""
_FEW_WORDS = 3
_DATE = r"^([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4})([ T].*)?$"
_WORDS = 20
"""How many different words of a column are counted."""
_NAMED = 3
"""How many of them a message names."""

_NUMBERS = 16
"""A text and what it takes to count it need about as much memory as so many numbers."""


class TextColumn:
    """What the values of a column of text are, counted a piece at a time.

    Args:
        name: the column.
        category: whether its type says that it holds categories.
    """

    def __init__(self, name: str, *, category: bool) -> None:
        self._name = name
        self._category = category
        self._rows = 0
        self._different = DistinctCount()
        self._numbers = DistinctCount()
        self._dates = 0
        self._codes = False
        self._words: Counter[str] = Counter()
        self._first: dict[str, int] = {}

    def add(self, text: pl.Series) -> None:
        """Count a piece of the column."""
        present = text.drop_nulls()
        self._different.add(present)
        self._codes = self._codes or bool(present.str.contains(LEADING_ZERO).any())
        stripped = text.str.strip_chars()
        numbers = _numbers(stripped, ".")
        if stripped.str.contains(",", literal=True).any():
            # a file whose decimals have commas says so of all its columns, and a frame of none
            numbers = numbers.fill_null(_numbers(stripped, ","))
        dates = stripped.str.contains(_DATE).fill_null(False)
        self._numbers.add(numbers.drop_nulls())
        self._dates += int(dates.sum())
        self._count_words(text.set(numbers.is_not_null() | dates, None))
        self._rows += len(text)

    def _count_words(self, words: pl.Series) -> None:
        different, counts = words.drop_nulls().value_counts(name="rows")
        known = different.is_in([*self._words])
        # the first ones only: of a column of words all would be counted for nothing
        chosen = known | ((~known).cum_sum() <= _WORDS - len(self._words))
        for word, count in zip(different.filter(chosen), counts.filter(chosen), strict=True):
            self._first.setdefault(word, self._rows + int((words == word).arg_true()[0]) + 1)
            self._words[word] += count

    @property
    def identifies(self) -> bool:
        """Whether nearly all values differ."""
        values = self._different.values
        return values >= _FEWEST_IDENTIFIERS and self._different.distinct > _IDENTIFYING * values

    def refuse_other_words(self, where: str) -> None:
        """Refuse numbers or dates among which there are a few other words, and dates that are text in a frame.

        As categories they would be something else than what was meant.

        Raises:
            DataError: naming the words, how often each occurs, its first row, and the remedy.
        """
        values, numbers = self._different.values, self._numbers.values
        if self._category or not values:
            return
        if self._dates == values:
            raise DataError(
                f"{where}: column '{self._name}' has dates as text: make it a column of dates, or name it in "
                "--data.categories"
            )
        few_words = self._numbers.distinct > _MEASURED and len(self._words) <= _FEW_WORDS
        enough = (_MOSTLY if few_words else _NEARLY_ALL) * values
        if self._dates >= enough:
            self._refuse(where, f"{self._dates} dates")
        elif not self._codes and enough <= numbers < values:
            self._refuse(where, f"{numbers} numbers")

    def _refuse(self, where: str, what: str) -> NoReturn:
        words = [
            f"'{shown(word)}' ({count} ×, first in row {self._first[word]})"
            for word, count in self._words.most_common(_NAMED)
        ]
        more = ", …" if len(self._words) > _NAMED else ""
        raise DataError(
            f"{where}: column '{self._name}' has {what} among {self._different.values} values, and "
            f"{', '.join(words)}{more}: correct them, name a CSV file's words "
            "for missing values in --data.missing, or the column in --data.categories"
        )


def _numbers(text: pl.Series, decimal: Decimal) -> pl.Series:
    """The values that are plain numbers, null elsewhere; those with a currency or percent sign are none."""
    found = read_numbers(text, decimal)
    return found.values.set(found.sign.is_not_null(), None)


def text_columns(table: Table, columns: Sequence[str], declared: Collection[str]) -> Mapping[str, TextColumn]:
    """What those columns hold that are text. All rows are read, one block at a time; nothing of their number is held.

    Args:
        table: the table.
        columns: those to be judged.
        declared: columns that the user calls categories, which are left as they are.
    """
    texts = [series.name for series in table.head.select(columns) if series.dtype in TEXT]
    texts = [name for name in texts if name not in declared]
    found = {name: TextColumn(name, category=table.head[name].dtype != pl.String) for name in texts}
    if texts:
        for _, frame in table.blocks(texts, block_rows(_NUMBERS * len(texts))):
            for name, column in found.items():
                column.add(as_text(frame[name]))
    return found
