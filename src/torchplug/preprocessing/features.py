"""Feature columns as numbers: which values are refused, which are filled in, and how categories are coded."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.errors import DataError
from torchplug.preprocessing.dates import DateColumn, PolarsType
from torchplug.preprocessing.rows import Rows, row_number
from torchplug.preprocessing.rules import MOST_CATEGORIES, EncodingRules, HandleUnknown
from torchplug.tables import enumerate_names, shown
from torchplug.tables.column_types import as_type
from torchplug.tables.text import TEXT, as_text

IMPUTE_REMEDY = "fill them in, or let --data.impute auto, mean, median, most_frequent or drop deal with them"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class NumericColumn:
    """A column that is a number: it becomes one feature of the same name.

    Args:
        name: the column.
        fill: what stands in for a missing value; None refuses them.
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
        reference: the category that all-zero features stand for; None: every level has its feature.
        pooled: the categories that share the feature `column=other`; without any there is no such feature.
        handle_unknown: "error" refuses a category that the training part lacks; "pool" counts it among the pooled ones,
            if there are any; otherwise all features are 0 for it.
        fill: what stands in for a missing value; None refuses them.
        pools_all: whether every category without a feature of its own is pooled, because those of the training part are
            too many to be listed.
    """

    name: str
    levels: tuple[str, ...]
    reference: str | None = None
    pooled: tuple[str, ...] = ()
    handle_unknown: HandleUnknown = "error"
    fill: str | None = None
    pools_all: bool = False

    @property
    def has_other(self) -> bool:
        """Whether there is a feature that categories share."""
        return bool(self.pooled) or self.pools_all

    dtype = pl.String
    """The polars type of its values."""

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
        """The name of a feature that stands for no category of its own, in parentheses if one is called so."""
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
        """Which feature each known category has; the reference has none, and its place is beyond them."""
        places = {level: place for place, level in enumerate(self.levels)} | dict.fromkeys(
            self.pooled, len(self.levels)
        )
        return places if self.reference is None else places | {self.reference: self.features}

    def place_of(self, level: str) -> int:
        """Which feature a category has: beyond them for none, −1 for a category that is refused."""
        return self._places.get(level, self._place_of_unknown)

    @property
    def _place_of_unknown(self) -> int:
        if self.handle_unknown == "error":
            return -1
        return len(self.levels) if self.handle_unknown == "pool" and self.has_other else self.features

    def unknown(self, values: pl.Series) -> int:
        """How many of the values that `read` gave are categories that the training part lacks, as far as its own are
        listed.
        """
        if self.pools_all:
            return 0
        present = values.drop_nulls() if values.null_count() else values
        unknown = [level for level in present.unique().to_list() if level not in self._places]
        return int(present.is_in(unknown).sum()) if unknown else 0

    def check(self, values: pl.Series, where: str, rows: Rows | None = None) -> None:
        """Refuse what `write` refuses, without writing.

        Raises:
            DataError: naming the first category that training never saw, unless unknown ones are dealt with.
        """
        self._codes(values, where, rows)

    def write(self, values: pl.Series, out: Array, where: str, rows: Rows | None = None) -> None:
        """Write what `read` gave as 0/1 features into an array (n, features).

        Raises:
            DataError: naming the first category that training never saw, unless unknown ones are dealt with.
        """
        codes = self._codes(values, where, rows)
        out[:] = 0.0
        (present,) = np.nonzero(codes < out.shape[1])
        out[present, codes[present]] = 1.0

    def _codes(self, values: pl.Series, where: str, rows: Rows | None) -> NDArray[np.int64]:
        """Which feature is 1 in each row (n,); beyond the features where none is.

        Time depends on the rows and their different categories, not on how many categories are known.
        """
        filled = values.fill_null(self.fill) if values.null_count() else values
        distinct = filled.unique()
        places = pl.Series(map(self.place_of, distinct.to_list()), dtype=pl.Int64)
        codes = filled.replace_strict(distinct, places, return_dtype=pl.Int64)
        unseen = codes == -1
        if unseen.any():
            raise DataError(
                f"{where}: column '{self.name}' has the category '{shown(filled.filter(unseen)[0])}' in row "
                f"{row_number(unseen, rows)}, which the training part lacks: correct it, or train with "
                "--data.handle_unknown pool"
            )
        found: NDArray[np.int64] = codes.to_numpy()
        return found


PlainColumn = NumericColumn | CategoricalColumn | DateColumn


@dataclass(frozen=True)
class MarkedColumn:
    """A column whose missing values are marked by a last feature `column=missing`, 1 where there is none.

    Args:
        column: the column, with what stands in for a missing value.
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
        """What stands in for a missing value."""
        return self.column.fill

    @property
    def features(self) -> int:
        """How many features the column has, with the mark."""
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
        """How many of the values are categories that the training part lacks."""
        return self.column.unknown(values)

    def write(self, values: pl.Series, out: Array, where: str, rows: Rows | None = None) -> None:
        """Write what `read` gave into an array (n, features)."""
        self.column.write(values, out[:, :-1], where, rows)
        out[:, -1] = values.is_null().to_numpy()


Column = PlainColumn | MarkedColumn


def refuse_type(series: pl.Series, where: str) -> None:
    """Refuse a column that is neither number, boolean nor text.

    Raises:
        DataError: naming the column and its type.
    """
    allowed = series.dtype.is_numeric() or series.dtype in (*TEXT, pl.Boolean, pl.Null)
    if not allowed:
        raise DataError(
            f"{where}: column '{series.name}' has type {series.dtype}, neither number nor category: "
            "convert it, or leave it out with exclude"
        )


def refuse_missing(columns: Iterable[pl.Series], where: str, remedy: str, rows: Rows | None = None) -> None:
    """Refuse null in any of the columns.

    Raises:
        DataError: naming each column with its count and its first row.
    """
    gaps = [
        f"{series.name} ({series.null_count()}, first in row {row_number(series.is_null(), rows)})"
        for series in columns
        if series.null_count()
    ]
    if gaps:
        raise DataError(f"{where}: missing values in {enumerate_names(gaps)}: {remedy}")


def refuse_infinite(series: pl.Series, where: str, rows: Rows | None = None) -> None:
    """Refuse ±∞ in a column; no way of filling in applies to it.

    Raises:
        DataError: naming the column, how many there are, and the first row.
    """
    if not series.dtype.is_float():
        return
    infinite = series.is_infinite().fill_null(False)
    if infinite.any():
        count = int(infinite.sum())
        raise DataError(
            f"{where}: column '{series.name}' has {count} infinite value{'s' if count > 1 else ''}, first in row "
            f"{row_number(infinite, rows)}: correct or leave out those rows"
        )


def read_column(series: pl.Series, where: str, rows: Rows | None = None) -> pl.Series:
    """A feature column, checked by type: numbers as float64, categories as text, missing values as null.

    Raises:
        DataError: for types that are no feature, and for infinite values.
    """
    return raw_column(series).read(series, where, rows)


def raw_column(series: pl.Series) -> PlainColumn:
    """A feature column as its type says, of which nothing is learned yet."""
    if series.dtype.is_temporal() and series.dtype != pl.Duration:
        return DateColumn.of(series)
    return CategoricalColumn(series.name, ()) if series.dtype in TEXT else NumericColumn(series.name)


def read_block(
    columns: Iterable[Column], block: Sequence[pl.Series], where: str, rows: Rows | None = None
) -> Iterator[pl.Series]:
    """Some rows of feature columns, each read by its `Column` when its turn comes.

    Where there are more columns than rows, those that hold nothing but finite numbers are checked together: to check
    them one by one would take longer than everything else.

    Raises:
        DataError: for what `Column.read` refuses.
    """
    finite = _finite(block) if block and len(block) > len(block[0]) else {}
    for column, series in zip(columns, block, strict=True):
        together = isinstance(column, NumericColumn) and series.name in finite
        yield finite[series.name] if together else column.read(series, where, rows)


def _finite(block: Sequence[pl.Series]) -> dict[str, pl.Series]:
    """Those of the columns that are numbers without gaps and infinities, by name, as float64."""
    numbers = pl.DataFrame([series for series in block if series.dtype.is_numeric()])
    if set(numbers.dtypes) - {pl.Float64}:
        numbers = numbers.cast(pl.Float64)
    finite = np.isfinite(numbers.to_numpy()).all(axis=0)
    return {series.name: series for series, whole in zip(numbers.get_columns(), finite, strict=True) if whole}


def read_columns(columns: Iterable[pl.Series], where: str, rows: Rows | None = None) -> Iterator[pl.Series]:
    """All rows of the feature columns of a table, each read by `read_column` when its turn comes.

    Raises:
        DataError: for what `read_column` refuses.
    """
    return (read_column(series, where, rows) for series in columns)


def check_columns(
    columns: Iterable[pl.Series], where: str, rows: Rows | None = None, *, complete: bool = False
) -> None:
    """Refuse all rows of the feature columns of a table for what `read_columns` refuses, a column at a time.

    Args:
        columns: as they are in the table.
        where: the table's name, for messages.
        rows: where the rows stand in the user's table, from 0; None: they are the whole of it.
        complete: whether missing values are refused, too.

    Raises:
        DataError: naming columns, counts and rows.
    """
    series = read_columns(columns, where, rows)
    refuse_missing(series if complete else (s.head(0) for s in series), where, IMPUTE_REMEDY, rows)


class TrainingRows(Protocol):
    """The feature columns of the training part, as `read_column` gives them."""

    @property
    def raw(self) -> Sequence[PlainColumn]:
        """What each is, before anything is learned."""
        ...

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Some of them whole, one at a time."""
        ...

    def blocks(self, size: int) -> Iterator[tuple[int, Iterable[pl.Series]]]:
        """All of them, at most `size` rows at a time: how many, at least one, and the columns of these rows."""
        ...


@dataclass(frozen=True)
class FittedColumn:
    """A column with what is known of its features without encoding them.

    Args:
        column: the column.
        shares: (features,) the share of rows in which each 0/1 feature of a category is 1; None for a number.
    """

    column: Column
    shares: Array | None = None


def fit_columns(table: TrainingRows, rules: EncodingRules) -> list[FittedColumn]:
    """Learn levels and fill values from the training part, a column at a time."""
    raw = {column.name: column for column in table.raw}
    learned = [name for name, column in raw.items() if rules.fills or not isinstance(column, NumericColumn)]
    fitted = {series.name: _fit_column(raw[series.name], series, rules) for series in table.columns(learned)}
    return [fitted.get(name) or FittedColumn(column) for name, column in raw.items()]


def _fit_column(raw: PlainColumn, series: pl.Series, rules: EncodingRules) -> FittedColumn:
    missing = series.null_count()
    present = series.drop_nulls() if missing else series
    if not isinstance(raw, CategoricalColumn):
        fill = _typical(present, rules) if rules.fills else None
        first = float(present.min()) if isinstance(raw, DateColumn) and len(present) else 0.0  # type: ignore[arg-type]
        number = fit_number(raw, fill, first, rules)
        return FittedColumn(marked(number, missing, len(series), rules))
    counts = dict(present.value_counts().iter_rows())
    column = marked(fit_categories(series.name, counts, rules), missing, len(series), rules)
    return FittedColumn(column, ones(column, counts, missing) / len(series))


def fit_number(
    raw: NumericColumn | DateColumn, fill: float | None, first: float, rules: EncodingRules
) -> NumericColumn | DateColumn:
    """A column of numbers or dates.

    Args:
        raw: what it is.
        fill: what stands in for a missing value.
        first: the smallest value of the training part.
        rules: the user's choices.
    """
    if isinstance(raw, NumericColumn):
        return replace(raw, fill=fill)
    origin = 0.0 if raw.kind == "time" else float(np.floor(first))
    return replace(raw, fill=fill, origin=origin, cyclic=rules.dates == "cyclic")


def marked(column: PlainColumn, missing: int, rows: int, rules: EncodingRules) -> Column:
    """A fitted column, with a feature for missing values where the rules want one.

    Args:
        column: fitted on the training part.
        missing: how many rows of the training part have no value.
        rows: how many rows the training part has.
        rules: the user's choices.
    """
    return MarkedColumn(column) if rules.indicates and 0 < missing < rows else column


def ones(column: Column, counts: Mapping[str, int], missing: int, others: int = 0) -> NDArray[np.int64]:
    """In how many rows each feature of a category is 1, (features,).

    Args:
        column: fitted on these rows.
        counts: category → rows.
        missing: rows without a value.
        others: rows of further categories.
    """
    if isinstance(column, MarkedColumn):
        return np.append(ones(column.column, counts, missing, others), missing)
    assert isinstance(column, CategoricalColumn), "numbers have no counts"
    found = [counts[level] for level in column.levels]
    if column.has_other:
        own = sum(found) + (0 if column.reference is None else counts[column.reference])
        found.append(sum(counts.values()) + others - own)
    numbers = np.array(found, dtype=np.int64)
    if column.fill is not None and (place := column.place_of(column.fill)) < len(numbers):
        numbers[place] += missing
    return numbers


def fit_categories(name: str, counts: Mapping[str, int], rules: EncodingRules, others: int = 0) -> CategoricalColumn:
    """A column of categories from how often the training part holds each.

    Args:
        name: the column.
        counts: category → rows.
        rules: the user's choices.
        others: rows of further, rarer categories, which are too many to be listed.
    """
    if not counts and rules.fills:
        # what is missing stands for all-zero features, of which there are none
        return CategoricalColumn(name, (), "", (), rules.handle_unknown, "")
    ordered = sorted(counts)
    shared = rules.pooled(counts, others)
    levels = tuple(level for level in ordered if level not in shared)
    # ties go to the first in order, so that the choice does not depend on the order of rows
    fill = max(ordered, key=lambda level: counts[level]) if rules.fills else None
    reference = levels[0] if rules.reference and levels else None
    pools_all = rules.pools_unknown and (others > 0 or len(shared) > MOST_CATEGORIES)
    return CategoricalColumn(
        name,
        levels if reference is None else levels[1:],
        reference,
        () if pools_all else tuple(level for level in ordered if level in shared),
        rules.handle_unknown,
        fill,
        pools_all,
    )


def _typical(present: pl.Series, rules: EncodingRules) -> float:
    """What stands in for a missing number; 0 where the training part has none, as any number would have no effect."""
    if not len(present):
        return 0.0
    if rules.number_fill == "most_frequent":
        return float(present.mode().sort()[0])
    values = present.to_numpy()
    return float(np.median(values) if rules.number_fill == "median" else values.mean())


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
    """The column that `column_state` described."""
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
