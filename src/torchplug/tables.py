"""Reading any table into a polars frame, and saying clearly why one cannot be read.

Rows count from 1 in every message: the first row below a file's header is row 1.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from torchplug.errors import DataError

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Real data sets as scikit-learn has them, with its column names; the target column is `target`."""

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""What counts as a missing value in a CSV file."""

Column = pl.Series | NDArray[Any]
"""A column in memory: as polars has it, or numbers (n,) that need not lie next to each other."""

_NUMBERS = "biufM"
"""The kinds of NumPy's types whose columns are numbers or dates."""

_ROWS_AT_ONCE = 2**16
"""How many rows of a column are hashed together."""

_SEPARATORS = {".csv": ",", ".tsv": "\t", ".txt": ","}
_PARQUET = (".parquet", ".pq")


def read(source: Any) -> pl.DataFrame:
    """A source as a frame: a bundled name, a CSV or Parquet file, or a table in memory.

    Args:
        source: a name of `BUNDLED`; a path ending in .csv, .tsv, .txt or .parquet; or what `as_frame` takes.

    Raises:
        DataError: if there is no such file, if it cannot be read, or if it holds no row.
    """
    if isinstance(source, str) and source in BUNDLED:
        return _bundled(source)
    if isinstance(source, str | os.PathLike):
        return _file(Path(source))
    return as_frame(source)


def is_parquet(source: Any) -> bool:
    """Whether a source is the path of a Parquet file."""
    return isinstance(source, str | os.PathLike) and Path(source).suffix.lower() in _PARQUET


def describe(source: Any) -> str:
    """How messages name a source: the file's path, the bundled name, or the kind of table."""
    if isinstance(source, str | os.PathLike):
        return str(source)
    return f"the given {type(source).__name__}"


def default_target(source: Any, frame: pl.DataFrame) -> list[str]:
    """The target columns of a bundled set or of an (X, y) pair; none where the user must say them."""
    if isinstance(source, str) and source in BUNDLED:
        return ["target"]
    if isinstance(source, tuple):
        shape = source[1].shape
        return frame.columns[-shape[1] :] if len(shape) > 1 else frame.columns[-1:]
    return []


def as_frame(source: Any) -> pl.DataFrame:
    """A table in memory as a frame.

    Args:
        source: what `columns_of` takes.

    Raises:
        DataError: if it is none of these, or holds no row or no column.
    """
    if isinstance(source, pl.DataFrame):
        _refuse_empty(source, source.height, source.width)
        return source
    return pl.DataFrame([as_series(name, column) for name, column in columns_of(source).items()])


def columns_of(source: Any) -> dict[str, Column]:
    """The columns of a table in memory. Those of arrays and pandas frames that hold numbers are views of them.

    Args:
        source: a polars or pandas frame, which keeps its column names; a NumPy array or tensor (n,) or (n, d), whose
            columns become x0, x1, …; or a pair (X, y) of those, where y adds a column y (y0, y1, … if it has several).

    Raises:
        DataError: if it is none of these, or holds no row or no column.
    """
    columns: dict[str, Column]
    if isinstance(source, pl.DataFrame):
        columns = dict(zip(source.columns, source.get_columns(), strict=True))
    elif type(source).__module__.partition(".")[0] == "pandas" and hasattr(source, "columns"):
        columns = _of_pandas(source)
    elif isinstance(source, tuple) and len(source) == 2:
        columns = _of_pair(*source)
    elif isinstance(source, np.ndarray | torch.Tensor):
        columns = _of_array(source, "x")
    else:
        raise DataError(
            f"cannot read a table from {type(source).__name__}: give a file, a bundled name ({', '.join(BUNDLED)}), "
            "an array, a tensor, a pair (X, y), or a polars or pandas frame"
        )
    _refuse_empty(source, _height(columns), len(columns))
    return columns


def as_series(name: str, column: Column) -> pl.Series:
    """A column, or some rows of one, as polars has it."""
    if isinstance(column, pl.Series):
        return column
    # polars has no half precision
    values = column.astype(np.float32) if column.dtype == np.float16 else np.ascontiguousarray(column)
    return pl.Series(name, values)


def require_columns(frame: pl.DataFrame, columns: Iterable[str], where: str) -> None:
    """Refuse a frame that lacks columns, naming the nearest ones it has.

    Raises:
        DataError: naming the missing columns and what is there instead.
    """
    missing = [column for column in columns if column not in frame.columns]
    if not missing:
        return
    near = [name for column in missing for name in difflib.get_close_matches(column, frame.columns, n=2)]
    hint = f"; did you mean {enumerate_names(dict.fromkeys(near))}?" if near else ""
    noun = "column" if len(missing) == 1 else "columns"
    raise DataError(
        f"{where} has no {noun} {enumerate_names(missing)}{hint} (its columns: {enumerate_names(frame.columns)})"
    )


def enumerate_names(names: Iterable[Any], limit: int = 12) -> str:
    """Names for a message, at most `limit` of them."""
    texts = [str(name) for name in names]
    more = f", … ({len(texts)} in all)" if len(texts) > limit else ""
    return ", ".join(texts[:limit]) + more


def fingerprint(*frames: pl.DataFrame) -> str:
    """SHA-256 over the column names, types and values of the frames, as hexadecimal text.

    Reading the same file twice gives the same fingerprint; a changed value, type, name or order another one.
    """
    return fingerprint_of_columns(*((frame.height, frame) for frame in frames))


def fingerprint_of_columns(*tables: tuple[int, Iterable[pl.Series]]) -> str:
    """The same of tables given as their number of rows and their columns, of which only one is held at a time."""
    digest = hashlib.sha256()
    for height, columns in tables:
        digest.update(f"{height} rows".encode())
        for series in columns:
            digest.update(f"\0{series.name}\0{series.dtype}\0".encode())
            digest.update(np.packbits(series.is_null().to_numpy()).data)
            for content in _content(series):
                digest.update(content)
    return digest.hexdigest()


def _content(series: pl.Series) -> Iterator[bytes | memoryview]:
    """A column's values as bytes that do not depend on how polars stores them, some rows at a time."""
    slices = [series.slice(start, _ROWS_AT_ONCE) for start in range(0, len(series), _ROWS_AT_ONCE)]
    if series.dtype.is_float():
        yield from (rows.fill_null(0).cast(pl.Float64).to_numpy().data for rows in slices)
    elif series.dtype.is_signed_integer() and series.dtype != pl.Int128:
        yield from (rows.fill_null(0).cast(pl.Int64).to_numpy().data for rows in slices)
    else:
        # lengths first: ("ab", "c") and ("a", "bc") must differ
        yield from (np.array(_lengths(rows), dtype=np.int64).data for rows in slices)
        yield from (b"".join(_texts(rows)) for rows in slices)


def _lengths(series: pl.Series) -> Sequence[int] | pl.Series:
    if series.dtype == pl.String:
        return series.str.len_bytes().fill_null(len("None"))
    return [len(text) for text in _texts(series)]


def _texts(series: pl.Series) -> list[bytes]:
    return [str(value).encode() for value in series.to_list()]


def _bundled(name: str) -> pl.DataFrame:
    # Files of our own: scikit-learn's loaders would import 600 modules for them.
    return pl.read_parquet(Path(__file__).with_name("bundled") / f"{name}.parquet")


def _file(path: Path) -> pl.DataFrame:
    require_file(path)
    suffix = path.suffix.lower()
    try:
        frame = _read_csv(path, _SEPARATORS[suffix]) if suffix in _SEPARATORS else pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, csv.Error) as error:
        kind = "CSV" if suffix in _SEPARATORS else "Parquet"
        raise DataError(f"{path} cannot be read as {kind}: {str(error).strip().splitlines()[0]}") from error
    if frame.height == 0:
        raise DataError(f"{path} has a header and no rows")
    return frame


def require_file(path: Path) -> None:
    """Refuse a path where no table can be.

    Raises:
        DataError: if there is no file, if it is empty, or if its name does not say what it is.
    """
    if not path.is_file():
        near = difflib.get_close_matches(str(path), BUNDLED, n=1)
        hint = f"; did you mean the bundled {near[0]}?" if near else f" (bundled data: {', '.join(BUNDLED)})"
        raise DataError(f"{path} is a directory, not a table" if path.is_dir() else f"no file {path}{hint}")
    if path.suffix.lower() not in (*_SEPARATORS, *_PARQUET):
        raise DataError(f"cannot tell the format of {path}: its name must end in .csv, .tsv, .txt or .parquet")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")


def _read_csv(path: Path, separator: str) -> pl.DataFrame:
    # polars renames repeated and empty names without a word, so the header is checked first
    with path.open(newline="", encoding="utf-8-sig") as file:
        header = next(csv.reader(file, delimiter=separator), [])
    _refuse_names(header, str(path))
    # blank lines at the end are no rows
    content = path.read_bytes().rstrip(b"\r\n") + b"\n"
    # types are inferred from every row: a word in the last one must not turn into a failure to parse
    return pl.read_csv(content, separator=separator, infer_schema_length=None, null_values=list(MISSING))


def _refuse_names(names: Sequence[str], where: str) -> None:
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1 and name]
    if repeated:
        raise DataError(f"{where} has several columns named {enumerate_names(repeated)}: names must differ")
    if "" in names:
        raise DataError(
            f"column {names.index('') + 1} of {where} has no name: name it, or write the file without its row index"
        )


def _refuse_empty(source: Any, rows: int, columns: int) -> None:
    if rows == 0 or columns == 0:
        raise DataError(f"{describe(source)} has {rows} rows and {columns} columns: nothing to read")


def _height(columns: Mapping[str, Column]) -> int:
    return len(next(iter(columns.values()), ()))


def _of_pandas(frame: Any) -> dict[str, Column]:
    names = [str(name) for name in frame.columns]
    _refuse_names(names, "the pandas frame")
    return {name: _pandas_column(name, frame.iloc[:, j]) for j, name in enumerate(names)}


def _pandas_column(name: str, column: Any) -> Column:
    """One column, converted without pyarrow, which polars' own conversion would ask for."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in _NUMBERS:
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    missing = column.isna().to_numpy()
    values = [None if absent else value for value, absent in zip(column.tolist(), missing, strict=True)]
    return _from_objects(name, values)


def _of_pair(features: Any, target: Any) -> dict[str, Column]:
    left = columns_of(features)
    series = hasattr(target, "to_frame") and len(target.shape) == 1
    right = (
        _of_array(target, "y")
        if isinstance(target, np.ndarray | torch.Tensor)
        else columns_of(target.to_frame() if series else target)
    )
    if _height(left) != _height(right):
        raise DataError(f"X has {_height(left)} rows and y has {_height(right)}")
    if len(target.shape) == 1:
        (column,) = right.values()
        right = {"y": column.alias("y") if isinstance(column, pl.Series) else column}
    _refuse_names([*left, *right], "the pair (X, y)")
    return left | right


def _of_array(array: Any, prefix: str) -> dict[str, Column]:
    values = array.detach().cpu() if isinstance(array, torch.Tensor) else array
    if isinstance(values, torch.Tensor):
        # NumPy has no bfloat16
        values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if values.ndim not in (1, 2):
        raise DataError(f"an array with {values.ndim} dimensions is no table: give (rows,) or (rows, columns)")
    if values.dtype.kind == "c":
        raise DataError("the array is complex: give its real and imaginary parts as columns")
    table = values.reshape(len(values), -1) if len(values) else values.reshape(0, max(1, values.shape[-1]))
    return {f"{prefix}{j}": _array_column(f"{prefix}{j}", table[:, j]) for j in range(table.shape[1])}


def _array_column(name: str, values: NDArray[Any]) -> Column:
    return values if values.dtype.kind in _NUMBERS else _from_objects(name, values.tolist())


def _from_objects(name: str, values: Sequence[Any]) -> pl.Series:
    """Python values as a column: numbers if all are, else text; other types are left for the encoder to refuse."""
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        return pl.Series(name, values, dtype=None if all(isinstance(v, int) for v in present) else pl.Float64)
    if any(isinstance(value, str) for value in present):
        return pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
    return pl.Series(name, values, strict=False)
