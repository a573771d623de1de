"""Feature columns of a table: read by their kind, and fitted on the training split."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.preprocessing.columns import (
    Array,
    CategoricalColumn,
    Column,
    MarkedColumn,
    NumericColumn,
    PlainColumn,
    raw_column,
)
from torchplug.preprocessing.dates import DateColumn
from torchplug.preprocessing.refusals import IMPUTE_REMEDY, refuse_missing
from torchplug.preprocessing.rows import Rows
from torchplug.preprocessing.rules import MOST_CATEGORIES, EncodingRules


def read_column(series: pl.Series, where: str, rows: Rows | None = None) -> pl.Series:
    """A feature column, checked by type: numbers as float64, categories as text, missing values as null.

    Raises:
        DataError: for types that are no feature, and for infinite values.
    """
    return raw_column(series).read(series, where, rows)


def read_block(
    columns: Iterable[Column], block: Sequence[pl.Series], where: str, rows: Rows | None = None
) -> Iterator[pl.Series]:
    """Some rows of feature columns, read lazily by their `Column`s.

    If there are more columns than rows, those with finite numbers only are checked together, because checking them one
    by one would dominate the time.

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
    """All rows of a table's feature columns, read lazily by `read_column`.

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
        rows: their positions in the user's table, from 0; None: all of it.
        complete: whether missing values are refused as well.

    Raises:
        DataError: naming columns, counts and rows.
    """
    series = read_columns(columns, where, rows)
    refuse_missing(series if complete else (s.head(0) for s in series), where, IMPUTE_REMEDY, rows)


class TrainingRows(Protocol):
    """The feature columns of the training split, as `read_column` gives them."""

    @property
    def raw(self) -> Sequence[PlainColumn]:
        """The unfitted columns."""
        ...

    def columns(self, names: Sequence[str]) -> Iterator[pl.Series]:
        """Some of them whole, one at a time."""
        ...

    def blocks(self, size: int) -> Iterator[tuple[int, Iterable[pl.Series]]]:
        """Yield (number of rows, columns of these rows), with 1 to `size` rows at a time."""
        ...


@dataclass(frozen=True)
class FittedColumn:
    """A fitted column and statistics of its features that need no encoding.

    Args:
        column: the column.
        shares: (features,) the share of rows in which each 0/1 feature of a category is 1; None for a number.
    """

    column: Column
    shares: Array | None = None


def fit_columns(table: TrainingRows, rules: EncodingRules) -> list[FittedColumn]:
    """Fit levels and fill values on the training split, a column at a time."""
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
        first: the smallest value of the training split.
        rules: the user's choices.
    """
    if isinstance(raw, NumericColumn):
        return replace(raw, fill=fill)
    origin = 0.0 if raw.kind == "time" else float(np.floor(first))
    return replace(raw, fill=fill, origin=origin, cyclic=rules.dates == "cyclic")


def marked(column: PlainColumn, missing: int, rows: int, rules: EncodingRules) -> Column:
    """A fitted column, with a feature for missing values if the rules require one.

    Args:
        column: fitted on the training split.
        missing: how many rows of the training split have no value.
        rows: how many rows the training split has.
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
    """A column of categories from how often the training split holds each.

    Args:
        name: the column.
        counts: category → rows.
        rules: the user's choices.
        others: rows of further, rarer categories, which are too many to be listed.
    """
    if not counts and rules.fills:
        # missing values become all-zero features
        return CategoricalColumn(name, (), "", (), rules.handle_unknown, "")
    ordered = sorted(counts)
    shared = rules.pooled(counts, others)
    levels = tuple(level for level in ordered if level not in shared)
    # ties are broken by order of names, so that the choice does not depend on the order of rows
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
    """The replacement of missing numbers; 0 if the training split has no number, when any would have no effect."""
    if not len(present):
        return 0.0
    if rules.number_fill == "most_frequent":
        return float(present.mode().sort()[0])
    values = present.to_numpy()
    return float(np.median(values) if rules.number_fill == "median" else values.mean())
