"""Detection of a CSV file's dialect: its separator, the lines above its header, and its column names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path

from torchplug.errors import DataError
from torchplug.tables.csv_records import Record, lines_of, records, unclosed
from torchplug.tables.names import enumerate_names, refuse_repeated, shown

_PROMISED = {".csv": ",", ".tsv": "\t", ".txt": ","}
_CANDIDATES = (",", ";", "\t", "|")

_ROWNAMES = "rownames"
"""The name of a first column that has none: row names of R, or the index of pandas."""

_SAMPLE_RECORDS = 100
_SAMPLE_BYTES = 2**20
_HEADER_BYTES = 2**26
"""The longest first line of a CSV file that is taken for a header: 64 MiB, some millions of names."""

_NAME_LENGTH = 2**17
_NEARLY = 0.9
"""The share of records of the header's number of fields that a separator is taken by, if none suits all of them."""

_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[\r\n]*', re.IGNORECASE)
"""The first line by which Excel is told the separator."""

_NUMBER = re.compile(r"[+-]?[0-9]*[.,]?[0-9]+([eE][+-]?[0-9]+)?")


@dataclass(frozen=True)
class Dialect:
    """The dialect of a CSV file.

    Args:
        separator: one character.
        header: the fields of the header.
        names: of the columns of its rows; "" for one without a name, which may hold no value.
        lines: those above the first row.
        notes: what is not as the file's name promises, each a line.
    """

    separator: str
    header: tuple[str, ...]
    names: tuple[str, ...]
    lines: int
    notes: tuple[str, ...] = ()

    @property
    def has_row_names(self) -> bool:
        """Whether the first column is without a name in the header."""
        return self.names[0] == _ROWNAMES != self.header[0]

    def suits(self, fields: Sequence[str]) -> bool:
        """Whether a row has a field for each column up to the last named one, and no value beyond.

        pandas and R's read.csv fill shorter rows with missing values. They are refused here, since a row that was cut
        off, or that lacks a field in the middle, would be read as another one.
        """
        return len(fields) >= self._named and not any(field.strip() for field in fields[len(self.names) :])

    @cached_property
    def _named(self) -> int:
        return max((j + 1 for j, name in enumerate(self.names) if name), default=0)


def promised_separator(path: Path) -> str | None:
    """The separator that a file's name promises; None if it is not the name of a CSV file."""
    name = path.name.lower().removesuffix(".gz")
    return _PROMISED.get(Path(name).suffix)


def require_separator(separator: str) -> str:
    r"""A separator as the user writes it: one character, `\t` or `tab`.

    Raises:
        DataError: if it is none of these.
    """
    separator = {"\\t": "\t", "tab": "\t"}.get(separator, separator)
    if len(separator) != 1 or separator in '"\r\n\0':
        raise DataError(
            f"--data.separator {shown(repr(separator))} is not one character: give what separates fields, such as "
            "',', ';', '|' or tab"
        )
    return separator


def find_dialect(content: bytes, separator: str | None, promised: str, where: str) -> Dialect:
    """Detect a file's dialect from its first records.

    Args:
        content: of the file, in UTF-8.
        separator: the user's; None: detected.
        promised: the separator that the file's name promises.
        where: the file's name, for messages.

    Raises:
        DataError: if the header cannot be read, repeats a name, or if fields are separated by several spaces.
    """
    sample = _Sample(content, where)
    notes = []
    above = sample.leading(0, _is_blank)
    told = _SEPARATOR_LINE.fullmatch(sample.lines[above])
    if told and sample.leading(above + 1, _is_blank) < len(sample.lines):
        above += 1
        if separator is None:
            separator = told[1]
            notes.append(f"read with separator {separator!r}, as line {above} says (--data.separator)")
    header = sample.leading(above, lambda line: _is_blank(line) or line.startswith("#"))
    comments = [i for i in range(above, header) if sample.lines[i].startswith("#")]
    if comments and (header == len(sample.lines) or _is_header(sample, comments[-1], separator, promised)):
        header = comments.pop()
    if comments:
        lines = "1 line that begins" if len(comments) == 1 else f"{len(comments)} lines that begin"
        notes.append(f"{lines} with # above the header left out")
    shape, others = _choose(sample, header, separator, promised)
    if separator is None and (shape.separator != promised or others):
        also = f"; {enumerate_names(map(repr, others))} would do as well" if others else ""
        notes.append(f"read with separator {shape.separator!r}{also} (--data.separator)")
    _require_names(shape, where)
    return replace(shape.dialect, notes=tuple(notes))


class _Sample:
    """The first lines of a file."""

    def __init__(self, content: bytes, where: str) -> None:
        length, lines = _SAMPLE_BYTES, [""]
        while True:
            text = lines_of(content[:length] if length >= len(content) else _whole_characters(content[:length]))
            lines = [*text]
            if length >= len(content) or len(lines) > 3:
                break
            if length >= _HEADER_BYTES:
                raise DataError(
                    f"{where}: its first line has more than {_HEADER_BYTES // 2**20} MiB, which is no header"
                )
            length *= 8
        self.complete = length >= len(content)
        self.lines = lines if self.complete else lines[:-1]
        self.where = where
        if all(map(_is_blank, self.lines)):
            raise DataError(f"{where} cannot be read as CSV: its lines are blank")

    def leading(self, start: int, belongs: Callable[[str], bool]) -> int:
        """The first line from `start` that does not belong to those above the header."""
        return next((i for i in range(start, len(self.lines)) if not belongs(self.lines[i])), len(self.lines))

    def shape(self, separator: str, above: int) -> _Shape:
        """The first records below some lines, without one that is cut off."""
        header, *rows = islice(records(self.lines[above:], separator, above), _SAMPLE_RECORDS)
        if rows and not self.complete and not rows[-1].closed:
            rows.pop()
        return _Shape(separator, header, rows)


def _is_blank(line: str) -> bool:
    return not line.strip()


def _whole_characters(content: bytes) -> bytes:
    """A piece of UTF-8 without what is left of a character at its end."""
    return content.decode(errors="ignore").encode()


class _Shape:
    """The first records of a file, split by one separator."""

    def __init__(self, separator: str, header: Record, rows: Sequence[Record]) -> None:
        self.separator = separator
        self.header = header
        self.rows = rows
        written = tuple(name.strip() for name in header.fields)
        self.dialect = Dialect(separator, written, self._names(written), header.last)

    @cached_property
    def rectangular(self) -> bool:
        """Whether all rows have the header's columns."""
        return self.share == 1

    @cached_property
    def share(self) -> float:
        """The share of rows that have the header's columns."""
        return sum(self.dialect.suits(row.fields) for row in self.rows) / max(1, len(self.rows))

    @property
    def single(self) -> bool:
        """Whether there is one column only."""
        return len(self.header.fields) <= 1

    @property
    def has_numbers(self) -> bool:
        """Whether a column has numbers in all rows."""
        columns = zip(*(row.fields for row in self.rows), strict=False)
        return any(all(_NUMBER.fullmatch(value.strip()) for value in column) for column in columns)

    @property
    def has_header(self) -> bool:
        """Whether the first record is evidently a header: words above numbers."""
        words = [value.strip() for value in self.header.fields]
        return all(word and not _NUMBER.fullmatch(word) for word in words) and self.has_numbers

    def _names(self, written: tuple[str, ...]) -> tuple[str, ...]:
        longer = bool(self.rows) and all(len(row.fields) == len(written) + 1 for row in self.rows)
        if longer and not any(row.fields[-1].strip() for row in self.rows):
            return (*written, "")
        # R's write.table leaves the header of the row names out, which all differ; one row could be a ragged one, and
        # one name a title
        if longer and len(written) > 1 and 1 < len(self.rows) == len({row.fields[0] for row in self.rows}):
            return (_ROWNAMES, *written)
        return (_ROWNAMES, *written[1:]) if any(written) and not written[0] else written


def _choose(sample: _Sample, above: int, separator: str | None, promised: str) -> tuple[_Shape, list[str]]:
    """Split the records below some lines by the matching separator; also return other separators that match.

    A separator matches if it gives all records the header's columns, of which there are at least two. If several match,
    or none, the one that the file's name promises is used.

    Raises:
        DataError: if several do, and what the name promises does not.
    """
    if separator is not None:
        return sample.shape(separator, above), []
    shapes = {candidate: sample.shape(candidate, above) for candidate in (promised, *_CANDIDATES)}
    several = [shape for shape in shapes.values() if not shape.single]
    if not several:
        return _single(sample, above, shapes[promised]), []
    suitable = [shape for shape in several if shape.rectangular]
    if not suitable and shapes[promised].single:
        suitable = [shape for shape in several if shape.share >= _NEARLY]
    if len(suitable) > 1 and shapes[promised] not in suitable:
        found = " or ".join(repr(shape.separator) for shape in suitable)
        raise DataError(f"{sample.where} can be read with separator {found}: say which with --data.separator")
    chosen = suitable[0] if len(suitable) == 1 else shapes[promised]
    return chosen, [shape.separator for shape in suitable if shape is not chosen]


def _is_header(sample: _Sample, line: int, separator: str | None, promised: str) -> bool:
    """Whether a line that begins with # is the header of what is below it.

    Raises:
        DataError: if what is below it begins with a header too.
    """
    shape, _ = _choose(sample, line, separator, promised)
    if shape.single or not shape.rectangular:
        return False
    if len(shape.rows) > 1 and _Shape(shape.separator, shape.rows[0], shape.rows[1:]).has_header:
        raise DataError(
            f"{sample.where}: line {line + 1} begins with # and may be header or comment: remove the # or the line"
        )
    return True


def _single(sample: _Sample, above: int, shape: _Shape) -> _Shape:
    """One column, or several with single spaces between them, as R's write.table has them.

    Raises:
        DataError: if there are several spaces between columns.
    """
    spaced = sample.shape(" ", above)
    if not spaced.single and spaced.rows and spaced.rectangular and spaced.has_numbers:
        return spaced
    header, *rows = (replace(record, fields=record.fields[0].split()) for record in (shape.header, *shape.rows))
    spaced = _Shape(" ", header, rows)
    if not spaced.single and rows and spaced.rectangular and spaced.has_numbers:
        raise DataError(
            f"{sample.where}: its columns are separated by several spaces, and --data.separator is one character: "
            r"write it with commas, for instance by pandas.read_csv(…, sep=r'\s+').to_csv(…, index=False)"
        )
    return shape


def _require_names(shape: _Shape, where: str) -> None:
    """Refuse a header that cannot be one."""
    header, names = shape.header, shape.dialect.names
    if not header.closed:
        raise unclosed(header, where)
    if any(len(name) > _NAME_LENGTH for name in names):
        raise DataError(f"{where} cannot be read as CSV: its header has a name of more than {_NAME_LENGTH} characters")
    refuse_repeated([name for name in names if name] or names, where)
