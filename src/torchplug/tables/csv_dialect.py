"""What separates the fields of a CSV file, and which of its lines is the header."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torchplug.errors import DataError

_CANDIDATES = (",", ";", "\t", "|")
_RECORDS = 100
_SAMPLE_BYTES = 2**18
"""How many records, and bytes beyond the header, are compared."""

_HEADER_BYTES = 2**26
"""The longest first line of a CSV file that is taken for a header: 64 MiB, some millions of names."""

_NUMBER = re.compile(r"\s*[+-]?(\d+([.,]\d+)*|[.,]\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)
_BLANK = re.compile(rb"([ \r]*\n)*")
_EXCEL = re.compile(rb'"?sep=(.)"?[ ;,\t]*\n')


@dataclass(frozen=True)
class Dialect:
    """Where a table's records begin and what separates their fields.

    Args:
        separator: between fields.
        header: the names, without spaces around them.
        lines: the lines before the first record, the header among them.
        start: the bytes before it.
        width: the fields of the first record; 0 where there is none.
        notes: what was found out, each a line.
    """

    separator: str
    header: list[str]
    lines: int
    start: int
    width: int
    notes: tuple[str, ...] = ()


def dialect_of(content: bytes, where: str, separator: str | None, usual: str) -> Dialect:
    """The dialect of a file.

    Args:
        content: the file as UTF-8, lines ended by a line feed.
        where: its name, for messages.
        separator: as the user has said; None: the one of comma, semicolon, tab and bar that gives all of the first 100
            records as many fields as the header.
        usual: what its name promises.

    Raises:
        DataError: where the content can be read in several ways, and for a header that cannot be read.
    """
    notes = list[str]()
    start = _after_blank_lines(content, 0)
    if excel := _EXCEL.match(content, start):
        start, separator = excel.end(), separator or excel[1].decode("utf-8", "replace")
    comments = list[bytes]()
    while content.startswith(b"#", start):
        end = content.find(b"\n", start) + 1
        comments.append(content[start:end])
        start = _after_blank_lines(content, end)
    if content.find(b"\n", start, start + _HEADER_BYTES) < 0 and len(content) > start + _HEADER_BYTES:
        raise DataError(f"{where}: its first line has more than {_HEADER_BYTES // 2**20} MiB, which is no header")
    said = separator is not None
    separator = separator or _separator(content, start, where, usual)
    if not said and separator != usual:
        notes.append(f"{where}: read with separator {separator!r} (--data.separator)")
    if comments and _is_header(comments[-1], content, start, separator, where):
        start = content.rfind(comments.pop(), 0, start)
    if comments:
        lines = "a line that starts" if len(comments) == 1 else f"{len(comments)} lines that start"
        notes.append(f"{where}: {lines} with # above the header left out")
    try:
        records = reader(_lines(content, start), separator)
        header = [name.strip() for name in next(records, [])]
        lines_of_header = records.line_num
        width = len(next((record for record in records if record), []))
    except csv.Error as error:
        limit = csv.field_size_limit()
        raise DataError(
            f"{where} cannot be read as CSV: its header has a quote that is never closed, or a name of more than "
            f"{limit} characters"
        ) from error
    first = start
    for _ in range(lines_of_header):
        first = content.find(b"\n", first) + 1
    return Dialect(separator, header, content.count(b"\n", 0, first), first, width, tuple(notes))


def checked_separator(separator: str) -> str:
    r"""A separator as the user gives it, `\t` for a tab.

    Raises:
        DataError: if it is no single character that can separate.
    """
    found = "\t" if separator in ("\\t", "tab") else separator
    if len(found) != 1 or not found.isascii() or found in '"\r\n\0':
        raise DataError(f"separator must be one character such as ',', ';' or \\t, not {separator!r}")
    return found


def reader(lines: Iterable[str], separator: str, *, strict: bool = False) -> Any:
    """Python's reader of CSV; spaces after a separator, which may come before a quote, are no part of a value.

    Args:
        lines: with their ends.
        separator: between fields.
        strict: whether a quote that is never closed is refused.
    """
    return csv.reader(lines, delimiter=separator, skipinitialspace=separator != " ", strict=strict)


def _after_blank_lines(content: bytes, start: int) -> int:
    """Where the first line begins that is not blank."""
    found = _BLANK.match(content, start)
    return start if found is None else found.end()


def _lines(content: bytes, start: int) -> Iterator[str]:
    stream = io.BytesIO(content)
    stream.seek(start)
    return iter(io.TextIOWrapper(stream, newline="", encoding="utf-8", errors="replace"))


def _sample(content: bytes, start: int) -> list[str]:
    """The first lines: the header, and as many others as are compared."""
    lines = _lines(content, start)
    found = list(itertools.islice(lines, 2))
    taken = 0
    for line in lines:
        taken += len(line)
        if len(found) > _RECORDS or taken > _SAMPLE_BYTES:
            break
        found.append(line)
    return found


def _separator(content: bytes, start: int, where: str, usual: str) -> str:
    sample = _sample(content, start)
    exact, shorter, likely = list[str](), list[str](), list[str]()
    for candidate in _CANDIDATES:
        if not sample or candidate not in "".join(sample[:2]):
            continue
        counts = _counts(sample, candidate)
        if not counts or max(counts) < 2:
            continue
        header, rows = counts[0], set(counts[1:])
        if header > 1 and rows <= {header}:
            exact.append(candidate)
        elif rows == {header + 1}:
            shorter.append(candidate)
        elif header > 1 and counts.count(header) > len(counts) / 2:
            likely.append(candidate)
    for found in (exact, shorter, likely):
        if usual in found:
            return usual
        if len(found) > 1:
            raise DataError(
                f"{where} can be read with separator {' or '.join(map(repr, found))}: say which with --data.separator"
            )
        if found:
            return found[0]
    return " " if _between_spaces(sample, where) else usual


def _between_spaces(lines: Sequence[str], where: str) -> bool:
    """Whether lines without any other separator have several columns, one of them of numbers, with single spaces
    between them, as R's write.table writes.

    Raises:
        DataError: if there are several spaces between columns.
    """
    if any(candidate in line for line in lines for candidate in _CANDIDATES):
        return False
    try:
        single = [record for record in reader(lines, " ") if record]
    except csv.Error:
        return False
    if _is_table(single):
        return True
    if _is_table([line.split() for line in lines if line.strip()]):
        raise DataError(
            f"{where}: its columns are separated by several spaces, and a separator is one character: write it with "
            r"commas, for instance by pandas.read_csv(…, sep=r'\s+').to_csv(…, index=False)"
        )
    return False


def _is_table(records: Sequence[Sequence[str]]) -> bool:
    widths = {len(record) for record in records[1:]}
    if len(widths) != 1 or not widths <= {len(records[0]), len(records[0]) + 1} or widths == {1}:
        return False
    return any(all(_NUMBER.fullmatch(value) for value in column) for column in zip(*records[1:], strict=True))


def _counts(lines: Sequence[str], separator: str) -> list[int]:
    try:
        return [len(record) for record in reader(lines, separator) if record]
    except csv.Error:
        return []


def _is_header(comment: bytes, content: bytes, start: int, separator: str, where: str) -> bool:
    """Whether a line that starts with # is the header, with as many fields as the numbers below it."""
    names: list[str] = next(reader([comment.decode("utf-8", "replace")], separator), [])
    below: list[str] = next(reader(_lines(content, start), separator), [])
    if len(names) < 2 or len(names) != len(below):
        return False
    if not any(_NUMBER.fullmatch(field) for field in below):
        line = content.count(b"\n", 0, start)
        raise DataError(
            f"{where}: line {line} starts with # and may be the header or a comment: take the # away, or the line"
        )
    return True
