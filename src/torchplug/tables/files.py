"""Tables in files: which paths are refused, and how CSV and Parquet are read within the memory that there is."""

from __future__ import annotations

import csv
import difflib
import io
import os
import stat
from pathlib import Path
from typing import Any

import polars as pl

from torchplug.errors import DataError
from torchplug.memory import require_memory
from torchplug.tables.names import refuse_repeated, shown
from torchplug.tables.parquet_memory import ParquetMemory, require_names
from torchplug.tables.polars_errors import refused_as
from torchplug.tables.text import require_text_memory

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Real data sets as scikit-learn has them, with its column names; the target column is `target`."""

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""What counts as a missing value in a CSV file."""

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": ","}
_PARQUET = (".parquet", ".pq")

_HEADER_BYTES = 2**26
"""The longest first line of a CSV file that is taken for a header: 64 MiB, some millions of names."""

_NUMBER_BYTES = 8
"""What polars keeps for a number."""


def is_parquet(source: Any) -> bool:
    """Whether a source is the path of a Parquet file."""
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in _PARQUET


def read_bundled(name: str) -> pl.DataFrame:
    """One of the bundled data sets."""
    # Files of our own: scikit-learn's loaders would import 600 modules for them.
    return pl.read_parquet(Path(__file__).parents[1] / "bundled" / f"{name}.parquet")


def read_file(path: Path) -> pl.DataFrame:
    """The table in a CSV or Parquet file.

    Raises:
        DataError: if there is no such file, if it cannot be read, if it holds no row, or if it does not fit
            into memory.
    """
    require_file(path)
    separator = _SEPARATORS.get(path.suffix.lower())
    frame = _read_parquet(path) if separator is None else _read_csv(path, separator)
    if frame.height == 0:
        raise DataError(f"{path} has a header and no rows")
    return frame


def require_file(path: Path) -> None:
    """Refuse a path where no table can be.

    Raises:
        DataError: if there is no file, if it is no regular file, if it is empty, or if its name does not say what it
            is.
    """
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path} is a directory, not a table")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is a pipe or a device, not a file: save what comes from it, and give that file")
    if path.suffix.lower() not in (*_SEPARATORS, *_PARQUET):
        raise DataError(f"cannot tell the format of {path}: its name must end in .csv, .tsv, .txt or .parquet")
    if status.st_size == 0:
        raise DataError(f"{path} is empty")


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        near = difflib.get_close_matches(shown(path), BUNDLED, n=1)
        hint = f"; did you mean the bundled {near[0]}?" if near else f" (bundled data: {', '.join(BUNDLED)})"
        raise DataError(f"no file {path}{hint}") from None
    except OSError as error:
        raise DataError(f"no file {shown(path)}: {error.strerror or error}") from None
    except ValueError:
        raise DataError(f"no file {shown(path)}: a path has no NUL character") from None


# ---------------------------------------------------------------------- CSV


def _read_csv(path: Path, separator: str) -> pl.DataFrame:
    content = _content(path)
    header = _header(path, content, separator)
    # polars renames repeated and empty names without a word, so the header is checked first
    refuse_repeated(header, str(path))
    lines = content.count(b"\n")
    cells = min(lines * len(header), lines + content.count(separator.encode()))
    require_memory(
        cells * _NUMBER_BYTES,
        f"{path}: up to {lines - 1} rows of {len(header)} columns",
        "write it as Parquet, and choose columns with features, or read it in pieces with stream",
    )
    with refused_as(str(path), "CSV"):
        # types are inferred from every row: a word in the last one must not turn into a failure to parse
        return pl.read_csv(content, separator=separator, infer_schema_length=None, null_values=list(MISSING))


def _content(path: Path) -> bytes:
    """A file's bytes, lines ended by a line feed, and without blank lines at the end, which are no rows."""
    length = path.stat().st_size
    require_memory(
        2 * length,
        f"{path}: reading a CSV file of {length} bytes",
        "write it as Parquet (polars.scan_csv(…).sink_parquet(…)), and read it in pieces with stream",
    )
    with refused_as(str(path), "CSV"):
        content = path.read_bytes()
    if (position := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, position) + 1
        raise DataError(f"{path} has a NUL byte in line {line}, so it is no UTF-8 text: it is damaged, or in UTF-16")
    if b"\r" in content and b'"' not in content:
        # within quotes a carriage return is a value's
        content = content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not content.endswith(b"\n") or content.endswith((b"\n\n", b"\n\r\n")):
        content = content.rstrip(b"\r\n") + b"\n"
    return content


def _header(path: Path, content: bytes, separator: str) -> list[str]:
    if content.find(b"\n", 0, _HEADER_BYTES) < 0 and len(content) > _HEADER_BYTES:
        raise DataError(f"{path}: its first line has more than {_HEADER_BYTES // 2**20} MiB, which is no header")
    lines = io.TextIOWrapper(io.BytesIO(content), newline="", encoding="utf-8-sig")
    try:
        return next(csv.reader(lines, delimiter=separator), [])
    except csv.Error as error:
        limit = csv.field_size_limit()
        raise DataError(
            f"{path} cannot be read as CSV: its header has a quote that is never closed, or a name of more than "
            f"{limit} characters"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error


# ---------------------------------------------------------------------- Parquet


def _read_parquet(path: Path) -> pl.DataFrame:
    with refused_as(str(path), "Parquet"):
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = scan.collect_schema()
        rows = int(scan.select(pl.len()).collect().item()) if schema else 0
    require_names(list(schema), str(path))
    ParquetMemory(path, schema).require(0, rows, list(schema))
    with refused_as(str(path), "Parquet"):
        frame = scan.collect()
    require_text_memory(frame, str(path))
    return frame
