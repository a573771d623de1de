"""The bytes of a CSV file, decompressed; a file in another format is recognized by its first bytes."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

from torchplug.errors import DataError
from torchplug.memory import available_memory, require_memory, size
from torchplug.tables.polars_errors import refused_as

_GZIP = b"\x1f\x8b"
_CHUNK = 2**20

_EXPORT = "export it as CSV with the program that wrote it"
_UNPACK = "unpack it, and give the CSV file, as it is or compressed with gzip"
_FORMATS = (
    (b"PK\x03\x04", "a zip archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook", "save it as CSV with a spreadsheet program"),
    (b"BZh91AY&SY", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\0", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!\x1a", "a RAR archive", _UNPACK),
    (b"PAR1", "a Parquet file", "give it a name that ends in .parquet"),
    (b"ARROW1", "an Arrow file", "write it as Parquet with polars or pandas"),
    (b"\x89HDF\r\n", "an HDF5 file", _EXPORT),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"%PDF-", "a PDF document", _EXPORT),
    (b"RDX2\n", "an R workspace", "write the table with R's write.csv"),
    (b"RDX3\n", "an R workspace", "write the table with R's write.csv"),
    (b"<!doctype html", "a web page (HTML)", "download the file itself"),
    (b"<html", "a web page (HTML)", "download the file itself"),
    (b"<?xml", "an XML document", _EXPORT),
    (b'{"', "JSON", "write it as CSV or Parquet with polars or pandas"),
    (b'[{"', "JSON", "write it as CSV or Parquet with polars or pandas"),
)
"""First bytes of other formats, in lower case if they are text, with their names and the remedy."""

_AT_BOTH_ENDS = (b"PAR1", b"ARROW1")
"""Those with which such a file also ends; a column of a CSV file can be named so."""

_WORKBOOK = (b"[Content_Types].xml", b"xl/", b"application/vnd.oasis.opendocument.spreadsheet")
"""Names or content of the first entries of a zip archive that is a spreadsheet."""

_TAR = slice(257, 262)
"""The offset of a tar archive's signature."""


def csv_bytes(path: Path) -> bytes:
    """Return the content of a CSV file, decompressed if it is gzipped.

    Raises:
        DataError: if it cannot be read, is not a CSV file, or does not fit into memory.
    """
    length = path.stat().st_size
    require_memory(
        2 * length,
        f"{path}: reading a CSV file of {length} bytes",
        "write it as Parquet (polars.scan_csv(…).sink_parquet(…)), and read it in pieces with stream",
    )
    with refused_as(str(path), "CSV"):
        content = path.read_bytes()
    if content.startswith(_GZIP):
        content = _decompressed(content, path)
    _refuse_other_formats(content, path)
    return content


def _decompressed(content: bytes, path: Path) -> bytes:
    """Decompress gzip into at most half of the free memory, because a small file can expand enormously."""
    limit = available_memory() // 2
    out = io.BytesIO()
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
            while piece := stream.read(_CHUNK):
                if out.tell() + len(piece) > limit:
                    raise DataError(
                        f"{path}: decompressed it has more than {size(limit)}, half of the free memory: write it as "
                        "Parquet (polars.scan_csv(…).sink_parquet(…)), and read it in pieces with stream"
                    )
                out.write(piece)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: it is compressed with gzip, and damaged ({error})") from error
    return out.getvalue()


def _refuse_other_formats(content: bytes, path: Path) -> None:
    start = content[:512].lstrip()
    for magic, kind, remedy in _FORMATS:
        if not content.startswith(magic) and not start.lower().startswith(magic):
            continue
        if magic in _AT_BOTH_ENDS and not content.endswith(magic):
            continue
        if magic == b"PK\x03\x04" and any(name in content[:4096] for name in _WORKBOOK):
            kind, remedy = "a spreadsheet", "save it as CSV with a spreadsheet program"
        raise DataError(f"{path} is {kind}, not CSV: {remedy}")
    if content[_TAR] == b"ustar":
        raise DataError(f"{path} is a tar archive, not CSV: {_UNPACK}")
