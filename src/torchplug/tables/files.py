"""Tables in files: checks of paths, and reading of typed tables."""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from torchplug.errors import DataError
from torchplug.tables.column_types import Types, typed_columns, with_types
from torchplug.tables.csv_dialect import promised_separator
from torchplug.tables.csv_text import CsvFormat, read_csv_text
from torchplug.tables.names import shown
from torchplug.tables.parquet_dictionaries import dictionaries
from torchplug.tables.parquet_memory import ParquetMemory, require_names
from torchplug.tables.polars_errors import refused_as
from torchplug.tables.text import require_text_memory

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Real data sets as scikit-learn has them, with its column names; the target column is `target`."""

_PARQUET = (".parquet", ".pq")


def is_parquet(source: Any) -> bool:
    """Whether a source is the path of a Parquet file."""
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in _PARQUET


def read_bundled(name: str) -> pl.DataFrame:
    """One of the bundled data sets."""
    # Bundled files, because scikit-learn's loaders would import 600 modules.
    return pl.read_parquet(Path(__file__).parents[1] / "bundled" / f"{name}.parquet")


class FileTable(NamedTuple):
    """A file's table.

    Args:
        frame: its rows.
        form_notes: detected properties of a CSV file that its name does not promise, each a line.
        type_notes: how its columns were read, each a line.
    """

    frame: pl.DataFrame
    form_notes: Sequence[str] = ()
    type_notes: Sequence[str] = ()


def read_file(path: Path, form: CsvFormat, types: Types) -> FileTable:
    """The table in a CSV or Parquet file.

    Args:
        path: of the file.
        form: the user's settings for a CSV file.
        types: of columns whose type is given.

    Raises:
        DataError: if there is no such file, if it cannot be read, if it holds no row, or if it does not fit
            into memory.
    """
    require_file(path)
    if is_parquet(path):
        table = FileTable(with_types(_read_parquet(path), {**dictionaries(path), **types}))
    else:
        text = read_csv_text(path, form)
        typed = typed_columns(
            text.frame,
            str(path),
            decimal=text.decimal,
            missing=form.missing,
            types=types,
            dayfirst=form.dayfirst,
        )
        table = FileTable(pl.DataFrame(typed.columns), text.notes, typed.notes)
    if table.frame.height == 0:
        raise DataError(f"{path} has a header and no rows")
    return table


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


def require_file(path: Path) -> None:
    """Refuse a path that cannot be a table.

    Raises:
        DataError: if there is no file, if it is not a regular file, if it is empty, or if its extension is unknown.
    """
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path} is a directory, not a table")
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is a pipe or a device, not a file: save what comes from it, and give that file")
    if promised_separator(path) is None and not is_parquet(path):
        raise DataError(
            f"cannot tell the format of {path}: its name must end in .csv, .tsv, .txt (also with .gz) or .parquet"
        )
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
