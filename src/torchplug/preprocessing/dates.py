"""Dates and times of the day as numbers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.errors import DataError
from torchplug.preprocessing.rows import Rows, row_number
from torchplug.tables import shown
from torchplug.tables.dates import as_dates
from torchplug.tables.text import TEXT, as_text

Dates = Literal["number", "cyclic"]
"""How dates become features: elapsed time, or position in the year, the week and the day."""

Kind = Literal["date", "datetime", "time"]
PolarsType = pl.DataType | type[pl.DataType]

_TYPES: Mapping[Kind, PolarsType] = {"date": pl.Date, "datetime": pl.Datetime, "time": pl.Time}
_DAY_SECONDS = 86400.0
_DAYS_OF_A_YEAR = 365.2425
_CYCLES = {
    "date": {"year": _DAYS_OF_A_YEAR, "week": 7.0},
    "datetime": {"year": _DAYS_OF_A_YEAR, "week": 7.0, "day": 1.0},
    "time": {"day": 24.0},
}
"""The periods of each kind, in its unit."""


@dataclass(frozen=True)
class DateColumn:
    r"""A column of dates or times of day.

    As a number it is the days since the first date of the training split, or the hours since midnight. As cycles it is
    sin(2πt/P) and cos(2πt/P) for each period P: the year of 365.2425 days, the week and, with times, the day.

    Args:
        name: the column.
        kind: dates without times, dates with times, or times of day.
        cyclic: whether it becomes cycles.
        origin: subtracted from a number: days from 1970-01-01 to the first date; 0 for times.
        fill: replaces missing values, in days since 1970-01-01 or hours since midnight; None refuses them.
    """

    name: str
    kind: Kind
    cyclic: bool = False
    origin: float = 0.0
    fill: float | None = None

    @classmethod
    def of(cls, series: pl.Series) -> DateColumn:
        """Return an unfitted column for a type."""
        kind: Kind = "time" if series.dtype == pl.Time else "date" if series.dtype == pl.Date else "datetime"
        return cls(series.name, kind)

    @property
    def dtype(self) -> PolarsType:
        """The polars type of its values."""
        return _TYPES[self.kind]

    @property
    def features(self) -> int:
        """How many features the column has."""
        return 2 * len(_CYCLES[self.kind]) if self.cyclic else 1

    @functools.cached_property
    def feature_names(self) -> list[str]:
        """The column's own name, or `column=year_sin`, `column=year_cos` and so on."""
        if not self.cyclic:
            return [self.name]
        return [f"{self.name}={cycle}_{wave}" for cycle in _CYCLES[self.kind] for wave in ("sin", "cos")]

    def feature_name(self, meaning: str) -> str:
        """The name of a further feature."""
        return f"{self.name}={meaning}"

    @property
    def unit(self) -> str:
        """What the number counts."""
        if self.kind == "time":
            return "hours since midnight"
        first = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=self.origin)
        return f"days since {first:%Y-%m-%d}"

    def read(self, series: pl.Series, where: str, rows: Rows | None = None) -> pl.Series:
        """Days since 1970-01-01, or hours since midnight, as float64, missing values as null.

        Raises:
            DataError: if it holds anything but dates, or times of the day where these are expected.
        """
        wanted = "times of the day" if self.kind == "time" else "dates"
        if series.dtype in TEXT:
            found = as_dates(as_text(series).str.strip_chars(), where, dayfirst=None)
            if found is None and series.count():
                bad = series.is_not_null()
                first = f"'{shown(series.filter(bad)[0])}' in row {row_number(bad, rows)}"
                raise DataError(f"{where}: column '{self.name}' has text ({first}), and {wanted} are expected")
            series = series.cast(pl.Null) if found is None else found
        if series.dtype == pl.Null:
            return series.cast(pl.Float64)
        if not series.dtype.is_temporal() or (series.dtype == pl.Time) != (self.kind == "time"):
            raise DataError(f"{where}: column '{self.name}' has type {series.dtype}, and {wanted} are expected")
        if self.kind == "time":
            return series.cast(pl.Int64).cast(pl.Float64) / (_DAY_SECONDS * 1e9 / 24.0)
        zoned = getattr(series.dtype, "time_zone", None) is not None
        instants = series.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else series
        return instants.cast(pl.Datetime("us")).cast(pl.Int64).cast(pl.Float64) / (_DAY_SECONDS * 1e6)

    def check(self, values: pl.Series, where: str, rows: Rows | None = None) -> None:
        """Nothing: whatever `read` gives has features."""

    def unknown(self, values: pl.Series) -> int:
        """0: every date has features."""
        return 0

    def write(self, values: pl.Series, out: NDArray[np.float64], where: str, rows: Rows | None = None) -> None:
        """Write what `read` gave into an array (n, features)."""
        filled = values.fill_null(self.fill) if values.null_count() else values
        out[:] = self.parts(filled.to_numpy())

    def parts(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The features (n, features) of values (n,) that are all there."""
        if not self.cyclic:
            return (values - self.origin)[:, None]
        angles = 2.0 * np.pi * values[:, None] / np.array([*_CYCLES[self.kind].values()])
        waves: NDArray[np.float64] = np.stack([np.sin(angles), np.cos(angles)], axis=2)
        return waves.reshape(len(values), -1)

    def state(self) -> dict[str, Any]:
        """The column as plain data."""
        return {
            "name": self.name,
            "dates": self.kind,
            "cyclic": self.cyclic,
            "origin": self.origin,
            "fill": self.fill,
        }
