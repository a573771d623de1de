"""Reading any table into a polars frame.

Rows count from 1 in every message: the first row below a file's header is row 1.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from torchplug.errors import DataError
from torchplug.tables.column_types import Types, as_type, types_of, with_types
from torchplug.tables.csv_text import CsvFormat
from torchplug.tables.files import BUNDLED, is_parquet, read_bundled, read_file, require_file
from torchplug.tables.fingerprints import fingerprint, fingerprint_of_columns
from torchplug.tables.names import enumerate_names, refuse_repeated, require_columns, shown

__all__ = [
    "BUNDLED",
    "Column",
    "CsvFormat",
    "Types",
    "as_frame",
    "as_series",
    "as_type",
    "columns_of",
    "default_target",
    "describe",
    "enumerate_names",
    "fingerprint",
    "fingerprint_of_columns",
    "is_parquet",
    "read",
    "read_file",
    "require_columns",
    "require_file",
    "shown",
    "types_of",
    "with_types",
]

Column = pl.Series | NDArray[Any]
"""A column in memory: a polars series, or numbers (n,) that need not be contiguous."""

_NUMBERS = "biufM"
"""The kinds of NumPy's types whose columns are numbers or dates."""


def read(source: Any, form: CsvFormat | None = None, types: Types | None = None) -> pl.DataFrame:
    """Return a source as a frame: a bundled name, a CSV or Parquet file, or a table in memory.

    Args:
        source: a name of `BUNDLED`; a path ending in .csv, .tsv, .txt or .parquet; or what `as_frame` takes.
        form: of a CSV file; None: detected.
        types: of columns whose type is given, such as a model's features.

    Raises:
        DataError: if there is no such file, if it cannot be read, or if it holds no row.
    """
    if isinstance(source, str) and source in BUNDLED:
        return read_bundled(source)
    if isinstance(source, str | os.PathLike):
        return read_file(Path(source), form or CsvFormat(), types or {}).frame
    return with_types(as_frame(source), types or {})


def describe(source: Any) -> str:
    """Return a source's name in messages: the file's path, the bundled name, or the kind of table."""
    if isinstance(source, str | os.PathLike):
        return str(source)
    return f"the given {type(source).__name__}"


def default_target(source: Any, frame: pl.DataFrame) -> list[str]:
    """Return the target columns of a bundled set or an (X, y) pair; none for sources that do not define them."""
    if isinstance(source, str) and source in BUNDLED:
        return ["target"]
    if isinstance(source, tuple):
        shape = source[1].shape
        return frame.columns[-shape[1] :] if len(shape) > 1 else frame.columns[-1:]
    return []


def as_frame(source: Any) -> pl.DataFrame:
    """Return a table in memory as a frame.

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
    """Return the columns of a table in memory; numeric ones of arrays and pandas frames are views.

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
    """A column, or some rows of one, as a polars series."""
    if isinstance(column, pl.Series):
        return column
    # polars lacks half precision and dates in seconds
    others = {np.dtype(np.float16): np.dtype(np.float32)}
    kind = np.dtype("datetime64[us]") if column.dtype.kind == "M" else others.get(column.dtype, column.dtype)
    return pl.Series(name, np.ascontiguousarray(column, dtype=kind))


def _refuse_empty(source: Any, rows: int, columns: int) -> None:
    if rows == 0 or columns == 0:
        raise DataError(f"{describe(source)} has {rows} rows and {columns} columns: nothing to read")


def _height(columns: Mapping[str, Column]) -> int:
    return len(next(iter(columns.values()), ()))


def _of_pandas(frame: Any) -> dict[str, Column]:
    names = [str(name) for name in frame.columns]
    refuse_repeated(names, "the pandas frame")
    return {name: _pandas_column(name, frame.iloc[:, j]) for j, name in enumerate(names)}


def _pandas_column(name: str, column: Any) -> Column:
    """One column, converted without pyarrow, which polars' own conversion would ask for."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in _NUMBERS:
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    missing = column.isna().to_numpy()
    values = [None if absent else value for value, absent in zip(column.tolist(), missing, strict=True)]
    found = _from_objects(name, values)
    return as_type(found, pl.String) if hasattr(column, "cat") else found


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
    refuse_repeated([*left, *right], "the pair (X, y)")
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
