"""The records of a CSV file one by one: slower than polars, and with the line of each."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torchplug.errors import DataError

_FIELD = 2**31 - 1
"""The longest field; `csv` by itself stops at 131072 characters."""


@dataclass(frozen=True)
class Record:
    """One record.

    Args:
        first: the line where it begins, counted from 1.
        last: the line where it ends.
        fields: its values, without spaces before them, and without quotes around them.
        closed: whether the last quote of it is closed.
    """

    first: int
    last: int
    fields: list[str]
    closed: bool = True

    @property
    def open_line(self) -> int:
        """The line of the quote that is not closed."""
        text = self.fields[-1]
        ends = len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1
        return self.last - ends + text.endswith(("\n", "\r"))


class _Lines:
    """An iterator over lines that keeps the last one."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self.last = ""
        self.exhausted = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            self.last = next(self._lines)
        except StopIteration:
            self.exhausted = True
            raise
        return self.last


def records(text: Iterable[str], separator: str, before: int = 0) -> Iterator[Record]:
    """Yield the records of a text, except blank lines.

    A quote opens a quoted value only where a value begins, spaces aside, as in pandas and R; elsewhere it is a
    character.

    Args:
        text: lines with their ends.
        separator: one character.
        before: how many lines of the file come before these.
    """
    lines = _Lines(text)
    blank = " \t\r\n".replace(separator, "")
    with _long_fields():
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != " ")
        start = 0
        for fields in reader:
            first, start = start + 1, reader.line_num
            # "" in a line of its own is a value, and a blank is none
            if fields and (len(fields) > 1 or start > first or lines.last.strip(blank)):
                yield Record(before + first, before + start, fields, closed=not lines.exhausted)


def lines_of(content: bytes) -> io.TextIOWrapper:
    """Yield the lines of UTF-8 content, with their line ends of any kind."""
    return io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="")


def unclosed(record: Record, where: str) -> DataError:
    """The error of a record whose last quote is never closed."""
    return DataError(f"{where} cannot be read as CSV: line {record.open_line} opens a quote that is never closed")


@contextlib.contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
