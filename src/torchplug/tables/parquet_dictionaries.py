"""Columns of a Parquet file that are declared as categories: Arrow dictionaries, whatever they hold.

Arrow's writers store their schema in the file's metadata, base64 of a flatbuffer. Polars gives dictionaries of text
back as categories, and those of numbers as plain numbers.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from torchplug.tables.column_types import Types
from torchplug.tables.polars_errors import refused_as

_KEY = "ARROW:schema"
_PREFIX = 8
"""Bytes before the flatbuffer: a mark, and its length."""
_MESSAGE_HEADER, _SCHEMA_FIELDS, _FIELD_NAME, _FIELD_DICTIONARY = 2, 1, 0, 4
"""Places in the tables of the format's Message.fbs and Schema.fbs."""


def dictionaries(path: Path) -> Types:
    """The columns that are dictionaries, as text; none where the file does not say, or says it in a damaged way.

    Raises:
        DataError: if the file's metadata cannot be read.
    """
    with refused_as(str(path), "Parquet"):
        schema = pl.read_parquet_metadata(path).get(_KEY)
    if schema is None:
        return {}
    try:
        return dict.fromkeys(_names(base64.b64decode(schema)[_PREFIX:]), pl.String)
    except (ValueError, struct.error, IndexError):
        return {}


def _names(buffer: bytes) -> list[str]:
    message = _pointer(buffer, 0)
    header = _field(buffer, message, _MESSAGE_HEADER)
    fields = 0 if header is None else _field(buffer, _pointer(buffer, header), _SCHEMA_FIELDS)
    names = []
    for table in _tables(buffer, fields) if fields else ():
        name = _field(buffer, table, _FIELD_NAME)
        if name is not None and _field(buffer, table, _FIELD_DICTIONARY) is not None:
            text = _pointer(buffer, name)
            names.append(buffer[text + 4 : text + 4 + _number(buffer, text)].decode())
    return names


def _tables(buffer: bytes, place: int) -> Iterator[int]:
    vector = _pointer(buffer, place)
    for i in range(_number(buffer, vector)):
        yield _pointer(buffer, vector + 4 + 4 * i)


def _field(buffer: bytes, table: int, slot: int) -> int | None:
    """Where a table's field lies; None if the table lacks it."""
    places = table - struct.unpack_from("<i", buffer, table)[0]
    if 4 + 2 * slot >= struct.unpack_from("<H", buffer, places)[0]:
        return None
    offset: int = struct.unpack_from("<H", buffer, places + 4 + 2 * slot)[0]
    return table + offset if offset else None


def _pointer(buffer: bytes, place: int) -> int:
    return place + _number(buffer, place)


def _number(buffer: bytes, place: int) -> int:
    number: int = struct.unpack_from("<I", buffer, place)[0]
    return number
