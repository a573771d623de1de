"""The bytes of a CSV file as UTF-8: unpacked, decoded, and with lines that end in a line feed."""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from pathlib import Path

import numpy as np

from torchplug.errors import DataError
from torchplug.memory import require_memory, size
from torchplug.tables.polars_errors import refused_as

_AT_ONCE = 2**24
"""How many bytes are unpacked or checked together."""

_GZIP = b"\x1f\x8b"
_PACKED = {
    b"PK\x03\x04": "a zip archive or a workbook",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""How other forms of packed files begin."""

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""Byte order marks, longer ones first where they begin alike."""

_WESTERN = "cp1252"
"""The encoding of Windows in Western Europe and America, which Latin-1 text is nearly always in, too."""


def csv_bytes(path: Path, encoding: str | None) -> tuple[bytes, list[str]]:
    """The content of a file as UTF-8 without a byte order mark, and notes on what was found out about it.

    Args:
        path: the file; one that is packed by gzip is unpacked.
        encoding: of the characters, by Python's name; None: by the byte order mark, else UTF-8 if the whole file is,
            else UTF-16 if every second byte is NUL, else Windows-1252, which is noted.

    Raises:
        DataError: if it cannot be read or decoded, or does not fit into memory.
    """
    content = _unpacked(path)
    where, notes = str(path), list[str]()
    if encoding is None:
        encoding, certain = _encoding(content, where)
        if not certain:
            notes.append(f"{where}: read as {encoding} (--data.encoding names another)")
    content = _as_utf8(content, encoding, where)
    if (position := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        raise DataError(
            f"{where} has a NUL byte in line {line}: it is damaged, or in an encoding that --data.encoding must name"
        )
    return _with_line_feeds(content), notes


def _unpacked(path: Path) -> bytes:
    length = path.stat().st_size
    _require(2 * length, path, f"reading a CSV file of {length} bytes")
    with refused_as(str(path), "CSV"):
        content = path.read_bytes()
    for start, kind in _PACKED.items():
        if content.startswith(start):
            raise DataError(f"{path} is {kind}, not CSV: unpack it, or save it as CSV")
    if not content.startswith(_GZIP):
        return content
    pieces, total = list[bytes](), 0
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            while piece := file.read(_AT_ONCE):
                pieces.append(piece)
                total += len(piece)
                _require(2 * total, path, f"unpacking more than {size(total)}")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is a damaged gzip file: {error}") from error
    return b"".join(pieces)


def _require(needed: int, path: Path, what: str) -> None:
    require_memory(
        needed,
        f"{path}: {what}",
        "write it as Parquet (polars.scan_csv(…).sink_parquet(…)), and read it in pieces with stream",
    )


def _encoding(content: bytes, where: str) -> tuple[str, bool]:
    """The encoding, and whether the content leaves no doubt."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding, True
    head = np.frombuffer(content, dtype=np.uint8, count=min(len(content), 2**16) & ~1).reshape(-1, 2)
    if len(head):
        even, odd = (head == 0).mean(axis=0)
        if odd > 0.5 and even < 0.1:
            return "utf-16-le", False
        if even > 0.5 and odd < 0.1:
            return "utf-16-be", False
    if content.isascii():
        return "utf-8", True
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(content), _AT_ONCE):
            decoder.decode(content[start : start + _AT_ONCE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return _western(content, where), False
    return "utf-8", True


def _western(content: bytes, where: str) -> str:
    """Windows-1252 for content that is no UTF-8, unless it is nearly UTF-8 or has bytes that mean nothing.

    Raises:
        DataError: naming the flag.
    """
    broken = _line_of_first_fault(content, "utf-8")
    sequences = re.search(rb"[\xc3-\xdf][\x80-\xbf]|[\xe1-\xef][\x80-\xbf]{2}", content)
    if sequences and sequences[0].decode("utf-8", "ignore"):
        raise DataError(f"{where} is UTF-8 but for line {broken}: correct it, or name its encoding in --data.encoding")
    try:
        content.decode(_WESTERN)
    except UnicodeDecodeError:
        raise DataError(
            f"{where} is neither UTF-8 (line {broken}) nor {_WESTERN}: name its encoding in --data.encoding"
        ) from None
    return _WESTERN


def _as_utf8(content: bytes, encoding: str, where: str) -> bytes:
    try:
        if codecs.lookup(encoding).name == "utf-8":
            if not content.isascii():
                content.decode()
            return content.removeprefix(codecs.BOM_UTF8)
        text = content.decode(encoding)
    except (LookupError, ValueError) as error:
        if not isinstance(error, UnicodeDecodeError):
            raise DataError(f"no encoding is called {encoding!r}: utf-8, cp1252, latin-1 and utf-16 are") from None
        line = _line_of_first_fault(content, encoding)
        raise DataError(f"{where} is not in {encoding} (line {line}): name another in --data.encoding") from None
    return text.removeprefix("\ufeff").encode(errors="replace")


def _line_of_first_fault(content: bytes, encoding: str) -> int:
    try:
        content.decode(encoding)
    except UnicodeDecodeError as error:
        return content.count(b"\n", 0, error.start) + 1
    return 0


def _with_line_feeds(content: bytes) -> bytes:
    """The content with lines that end in a line feed, also the last one; a carriage return within quotes is a value's
    unless no line ends otherwise.
    """
    if b"\r" in content and (b'"' not in content or b"\n" not in content):
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return content if content.endswith(b"\n") else content + b"\n"
