"""Kinds of feature columns: numbers, categories and dates, and how each becomes features."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.errors import DataError
from torchplug.preprocessing.dates import DateColumn, PolarsType
from torchplug.preprocessing.refusals import refuse_infinite, refuse_type
from torchplug.preprocessing.rows import Rows, row_number
from torchplug.preprocessing.rules import HandleUnknown
from torchplug.tables import shown
from torchplug.tables.column_types import as_type
from torchplug.tables.text import TEXT, as_text

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NumericColumn:
    """A numeric column, which becomes one feature of the same name.

    Args:
        name: the column.
        fill: replaces missing values; None refuses them.
    """

    name: str
    fill: float | None = None

    features = 1
    """How many features the column has."""
    dtype = pl.Float64
    """The polars type of its values."""

    @property
    def feature_names(self) -> list[str]:
        """The column's own name."""
        return [self.name]

    def feature_name(self, meaning: str) -> str:
        """The name of a further feature."""
        return f"{self.name}={meaning}"

    def read(self, series: pl.Series, where: str, rows: Rows | None = None) -> pl.Series:
        """The column as float64, missing values as null.

        Raises:
            DataError: if it holds text, dates or infinite values.
        """
        if series.dtype in TEXT:
            numbers = as_text(series).cast(pl.Float64, strict=False)
            bad = numbers.is_null() & series.is_not_null()
            if bad.any():
                first = f"'{shown(series.filter(bad)[0])}' in row {row_number(bad, rows)}"
                raise DataError(f"{where}: column '{self.name}' has text ({first}), and numbers are expected")
        else:
            refuse_type(series, where)
            numbers = series.cast(pl.Float64)
        if numbers.null_count() == 0 and np.isfinite(numbers.to_numpy()).all():
            return numbers
        numbers = numbers.fill_nan(None)
        refuse_infinite(numbers, where, rows)
        return numbers

    def check(self, values: pl.Series, where: str, rows: Rows | None = None) -> None:
        """Nothing: whatever `read` gives is a feature."""

    def unknown(self, values: pl.Series) -> int:
        """0: every number can be a feature's value."""
        return 0

    def write(self, values: pl.Series, out: Array, where: str, rows: Rows | None = None) -> None:
        """Write what `read` gave into an array (n, 1)."""
        # asked first: to fill in nothing takes polars longer than everything else here
        filled = values.fill_null(self.fill) if values.null_count() else values
        out[:, 0] = filled.to_numpy()


@dataclass(frozen=True)
class CategoricalColumn:
    """A column of categories: one 0/1 feature `column=level` per level.

    Args:
        name: the column.
        levels: the categories with a feature of their own, sorted.
        reference: the category with all-zero features; None: every level has a feature.
        pooled: the categories that share the feature `column=other`; if empty, there is no such feature.
        handle_unknown: "error" refuses a category that is absent from the training split; "pool" treats it as a pooled
            one, if there are any; otherwise all its features are 0.
        fill: replaces missing values; None refuses them.
        pools_all: whether every category without a feature of its own is pooled, because the training split has too
            many to list.
    """

    name: str
    levels: tuple[str, ...]
    reference: str | None = None
    pooled: tuple[str, ...] = ()
    handle_unknown: HandleUnknown = "error"
    fill: str | None = None
    pools_all: bool = False

    dtype = pl.String
    """The polars type of its values."""

    @property
    def has_other(self) -> bool:
        """Whether there is a feature shared by several categories."""
        return bool(self.pooled) or self.pools_all

    @property
    def features(self) -> int:
        """How many features the column has."""
        return len(self.levels) + self.has_other

    @property
    def feature_names(self) -> list[str]:
        """`column=level` for each level, then, where categories are pooled, `column=other`, or `column=(other)` where
        other is a category.
        """
        names = [f"{self.name}={level}" for level in self.levels]
        return [*names, self.feature_name("other")] if self.has_other else names

    def feature_name(self, meaning: str) -> str:
        """The name of a feature that belongs to no category, in parentheses if a category has that name."""
        return f"{self.name}=({meaning})" if meaning in (*self.levels, self.reference) else f"{self.name}={meaning}"

    def read(self, series: pl.Series, where: str, rows: Rows | None = None) -> pl.Series:
        """The column as text, missing values as null.

        Raises:
            DataError: if it holds dates or nested values.
        """
        refuse_type(series, where)
        return as_type(series, pl.String) if series.dtype.is_numeric() else as_text(series)

    @functools.cached_property
    def _places(self) -> dict[str, int]:
        """The index of each known category's feature; the reference, which has none, has the index after the last."""
        places = {level: place for place, level in enumerate(self.levels)} | dict.fromkeys(
            self.pooled, len(self.levels)
        )
        return places if self.reference is None else places | {self.reference: self.features}

    def place_of(self, level: str) -> int:
        """The index of a category's feature: after the last one for none, −1 for a refused category."""
        return self._places.get(level, self._place_of_unknown)

    @property
    def _place_of_unknown(self) -> int:
        if self.handle_unknown == "error":
            return -1
        return len(self.levels) if self.handle_unknown == "pool" and self.has_other else self.features

    def unknown(self, values: pl.Series) -> int:
        """Return how many of the values from `read` are unknown, as far as the known categories are listed."""
        if self.pools_all:
            return 0
        present = values.drop_nulls() if values.null_count() else values
        unknown = [level for level in present.unique().to_list() if level not in self._places]
        return int(present.is_in(unknown).sum()) if unknown else 0

    def check(self, values: pl.Series, where: str, rows: Rows | None = None) -> None:
        """Refuse what `write` refuses, without writing.

        Raises:
            DataError: naming the first unknown category, unless `handle_unknown` allows them.
        """
        self._codes(values, where, rows)

    def write(self, values: pl.Series, out: Array, where: str, rows: Rows | None = None) -> None:
        """Write what `read` gave as 0/1 features into an array (n, features).

        Raises:
            DataError: naming the first unknown category, unless `handle_unknown` allows them.
        """
        codes = self._codes(values, where, rows)
        out[:] = 0.0
        (present,) = np.nonzero(codes < out.shape[1])
        out[present, codes[present]] = 1.0

    def _codes(self, values: pl.Series, where: str, rows: Rows | None) -> NDArray[np.int64]:
        """The index (n,) of the feature that is 1 in each row; the index after the last where none is.

        Time depends on the rows and their distinct categories, not on the number of known categories.
        """
        filled = values.fill_null(self.fill) if values.null_count() else values
        distinct = filled.unique()
        places = pl.Series(map(self.place_of, distinct.to_list()), dtype=pl.Int64)
        codes = filled.replace_strict(distinct, places, return_dtype=pl.Int64)
        unseen = codes == -1
        if unseen.any():
            raise DataError(
                f"{where}: column '{self.name}' has the category '{shown(filled.filter(unseen)[0])}' in row "
                f"{row_number(unseen, rows)}, which the training split lacks: correct it, or train with "
                "--data.handle_unknown pool"
            )
        found: NDArray[np.int64] = codes.to_numpy()
        return found


PlainColumn = NumericColumn | CategoricalColumn | DateColumn


@dataclass(frozen=True)
class MarkedColumn:
    """A column with a last feature `column=missing`, which is 1 where the value is missing.

    Args:
        column: the column, with a fill value.
    """

    column: PlainColumn

    @property
    def name(self) -> str:
        """The column's name."""
        return self.column.name

    @property
    def dtype(self) -> PolarsType:
        """The polars type of its values."""
        return self.column.dtype

    @property
    def fill(self) -> float | str | None:
        """The replacement of missing values."""
        return self.column.fill

    @property
    def features(self) -> int:
        """Number of features, including the missing-value indicator."""
        return self.column.features + 1

    @property
    def feature_names(self) -> list[str]:
        """The column's features, then `column=missing`: `column=(missing)` where missing is a category."""
        return [*self.column.feature_names, self.column.feature_name("missing")]

    def read(self, series: pl.Series, where: str, rows: Rows | None = None) -> pl.Series:
        """The column's values, missing ones as null."""
        return self.column.read(series, where, rows)

    def check(self, values: pl.Series, where: str, rows: Rows | None = None) -> None:
        """Refuse what the column refuses."""
        self.column.check(values, where, rows)

    def unknown(self, values: pl.Series) -> int:
        """Return how many of the values are unknown categories."""
        return self.column.unknown(values)

    def write(self, values: pl.Series, out: Array, where: str, rows: Rows | None = None) -> None:
        """Write what `read` gave into an array (n, features)."""
        self.column.write(values, out[:, :-1], where, rows)
        out[:, -1] = values.is_null().to_numpy()


Column = PlainColumn | MarkedColumn


def raw_column(series: pl.Series) -> PlainColumn:
    """Return an unfitted feature column for a type."""
    if series.dtype.is_temporal() and series.dtype != pl.Duration:
        return DateColumn.of(series)
    return CategoricalColumn(series.name, ()) if series.dtype in TEXT else NumericColumn(series.name)


def column_state(column: Column) -> dict[str, Any]:
    """A fitted column as plain data."""
    if isinstance(column, MarkedColumn):
        return column_state(column.column) | {"marked": True}
    if isinstance(column, NumericColumn):
        return {"name": column.name, "fill": column.fill}
    if isinstance(column, DateColumn):
        return column.state()
    return {
        "name": column.name,
        "levels": list(column.levels),
        "reference": column.reference,
        "pooled": list(column.pooled),
        "handle_unknown": column.handle_unknown,
        "fill": column.fill,
        "pools_all": column.pools_all,
    }


def column_from_state(state: Mapping[str, Any]) -> Column:
    """Return the column that `column_state` describes."""
    column: PlainColumn
    if "dates" in state:
        column = DateColumn(state["name"], state["dates"], state["cyclic"], state["origin"], state["fill"])
    elif "levels" in state:
        column = CategoricalColumn(
            state["name"],
            tuple(state["levels"]),
            state["reference"],
            tuple(state["pooled"]),
            state["handle_unknown"],
            state["fill"],
            state["pools_all"],
        )
    else:
        column = NumericColumn(state["name"], state["fill"])
    return MarkedColumn(column) if "marked" in state else column
