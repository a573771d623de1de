"""Conversion of a CSV file's content to UTF-8."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator

from torchplug.errors import DataError
from torchplug.memory import require_memory
from torchplug.tables.names import shown

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    # before UTF-16, whose mark UTF-32's begins with
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_BOM = codecs.BOM_UTF8
_FALLBACK = "cp1252"
"""The encoding of western Windows, which has the characters of Latin-1 too."""

_CHUNK = 2**20
_HEAD = 2**12
_NUL_SHARE = 0.3
"""The share of every second byte that is NUL in UTF-16: digits, separators and Latin letters have one."""


def as_utf8(content: bytes, encoding: str | None, where: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a file's content in UTF-8 without byte order mark, and a note if the encoding was guessed.

    Args:
        content: the bytes.
        encoding: Python's name of it; None: detected.
        where: the file's name, for messages.

    Raises:
        DataError: for an unknown encoding, for bytes that are not of it, and for NUL characters.
    """
    notes: tuple[str, ...] = ()
    if encoding is not None:
        content = _transcoded(content, _require_encoding(encoding), where, "does not fit --data.encoding")
    elif found := _found_encoding(content):
        content = _transcoded(content, found, where, "is damaged: it begins as a file in")
    elif (position := _first_not_utf8(content)) is not None:
        line = content.count(b"\n", 0, position) + 1
        if not content[:position].isascii():
            # a file in another encoding would not have come so far
            raise DataError(
                f"{where} is in UTF-8 up to line {line}, where a byte is not: correct it, or give --data.encoding"
            )
        content = _transcoded(content, _FALLBACK, where, "is not UTF-8, and no")
        notes = (f"read with encoding {_FALLBACK}, as line {line} is not UTF-8 (--data.encoding)",)
    if (position := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        raise DataError(
            f"{where} has a NUL byte in line {line}: it is damaged, or in an encoding that --data.encoding must name"
        )
    return content.removeprefix(_BOM), notes


def _require_encoding(name: str) -> str:
    try:
        " ".encode(name)
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise DataError(
            f"--data.encoding {shown(name)}: unknown; names are Python's, such as utf-8, latin-1, cp1252 or utf-16"
        ) from None


def _found_encoding(content: bytes) -> str | None:
    for mark, name in _BOMS:
        if content.startswith(mark):
            return name
    head = content[: min(_HEAD, len(content) // 2 * 2)]
    if not head or len(content) % 2:
        return None
    first, second = head[::2].count(0), head[1::2].count(0)
    if not first and second > _NUL_SHARE * len(head) / 2:
        return "utf-16-le"
    if not second and first > _NUL_SHARE * len(head) / 2:
        return "utf-16-be"
    return None


def _first_not_utf8(content: bytes) -> int | None:
    """The position of the first byte that is not UTF-8."""
    if content.isascii():
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start, piece in _pieces(content):
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(piece, final=start + _CHUNK >= len(content))
        except UnicodeDecodeError as error:
            return max(0, start - pending + error.start)
    return None


def _transcoded(content: bytes, encoding: str, where: str, refusal: str) -> bytes:
    if encoding == "utf-8" and _first_not_utf8(content) is None:
        return content
    require_memory(2 * len(content), f"{where}: its characters in UTF-8", "write the file in UTF-8, or as Parquet")
    out = io.BytesIO()
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        for start, piece in _pieces(content):
            out.write(decoder.decode(piece, final=start + _CHUNK >= len(content)).encode())
    except UnicodeError as error:
        good = str(error.object[: error.start], encoding, "replace") if isinstance(error, UnicodeDecodeError) else ""
        line = out.getvalue().count(b"\n") + good.count("\n") + 1
        raise DataError(f"line {line} of {where} {refusal} {encoding}: give the right --data.encoding") from error
    return out.getvalue()


def _pieces(content: bytes) -> Iterator[tuple[int, bytes]]:
    for start in range(0, len(content), _CHUNK):
        yield start, content[start : start + _CHUNK]
