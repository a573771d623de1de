"""The sizes that a Parquet file's footer gives: what its columns take in the file and beyond, before any is read.

The footer is a structure in Thrift's compact encoding: https://parquet.apache.org/docs/file-format/metadata/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
"""The encoding's types that are not whole numbers of variable length."""

_DEPTH = 32
"""How deep a footer's structures lie within each other at most; a real one's lie 6 deep."""


@dataclass(frozen=True)
class RowGroup:
    """What a row group takes.

    Args:
        rows: how many rows it has.
        compressed: bytes in the file, by column.
        uncompressed: bytes of the encoded values, by column; a dictionary counts once, however often it is used.
    """

    rows: int
    compressed: dict[str, int]
    uncompressed: dict[str, int]


def row_groups(path: Path) -> list[RowGroup]:
    """The sizes of a file's row groups; none where the footer cannot be read."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - 8))
            tail = file.read(8)
            length = int.from_bytes(tail[:4], "little")
            if tail[4:] != b"PAR1" or length > end - 8:
                return []
            file.seek(end - 8 - length)
            return list(_Footer(file.read(length)).row_groups())
    except (OSError, IndexError, ValueError, RecursionError):
        return []


class _Footer:
    """A position in a footer's bytes."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def row_groups(self) -> Iterator[RowGroup]:
        for field, kind in self._fields():
            if field == 4 and kind == _LIST:
                for _ in range(self._list()[0]):
                    yield self._row_group()
            else:
                self._skip(kind)

    def _row_group(self) -> RowGroup:
        rows, compressed, uncompressed = 0, dict[str, int](), dict[str, int]()
        for field, kind in self._fields():
            if field == 1 and kind == _LIST:
                for _ in range(self._list()[0]):
                    name, before, after = self._column()
                    uncompressed[name] = uncompressed.get(name, 0) + before
                    compressed[name] = compressed.get(name, 0) + after
            elif field == 3:
                rows = self._number()
            else:
                self._skip(kind)
        return RowGroup(rows, compressed, uncompressed)

    def _column(self) -> tuple[str, int, int]:
        """A column chunk: the name of the column, its bytes uncompressed and compressed."""
        found = ("", 0, 0)
        for field, kind in self._fields():
            if field == 3 and kind == _STRUCT:
                found = self._column_metadata()
            else:
                self._skip(kind)
        return found

    def _column_metadata(self) -> tuple[str, int, int]:
        name, uncompressed, compressed = "", 0, 0
        for field, kind in self._fields():
            if field == 3 and kind == _LIST:
                # the path to a leaf: what is nested counts for its column
                path = [self._binary() for _ in range(self._list()[0])]
                name = path[0].decode() if path else ""
            elif field == 6:
                uncompressed = self._number()
            elif field == 7:
                compressed = self._number()
            else:
                self._skip(kind)
        return name, uncompressed, compressed

    def _fields(self) -> Iterator[tuple[int, int]]:
        """The number and type of each field of a structure; its value must be read or skipped before the next."""
        field = 0
        while head := self._byte():
            field = field + (head >> 4) if head >> 4 else self._number()
            yield field, head & 15

    def _list(self) -> tuple[int, int]:
        """How many elements a list has, and their type."""
        head = self._byte()
        count = self._unsigned() if head >> 4 == 15 else head >> 4
        # every element takes a byte at least
        if count > len(self._content) - self._at:
            raise ValueError("a list beyond the footer's end")
        return count, head & 15

    def _binary(self) -> bytes:
        length = self._unsigned()
        start, self._at = self._at, self._at + length
        return self._content[start : self._at]

    def _byte(self) -> int:
        self._at += 1
        return self._content[self._at - 1]

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
        return value | byte << shift

    def _number(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

    def _skip(self, kind: int, depth: int = 0, *, element: bool = False) -> None:
        if depth > _DEPTH:
            raise ValueError("structures within structures without end")
        if kind == _BINARY:
            length = self._unsigned()
            self._at += length
        elif kind == _STRUCT:
            for _, inner in self._fields():
                self._skip(inner, depth + 1)
        elif kind in (_LIST, _SET):
            count, inner = self._list()
            for _ in range(count):
                self._skip(inner, depth + 1, element=True)
        elif kind == _MAP:
            raise ValueError("a footer has no maps")
        elif kind in (_TRUE, _FALSE):
            # a field's type is its value; elements of a list are a byte each
            self._at += element
        elif kind == _BYTE:
            self._at += 1
        elif kind == _DOUBLE:
            self._at += 8
        else:
            self._unsigned()
