"""Accumulators that fit a feature column, fed with blocks of the training split's rows.

A block may be a whole column of a table in memory or some rows of a streamed file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from torchplug.errors import DataError
from torchplug.preprocessing.blocks import intervals
from torchplug.preprocessing.columns import Array, CategoricalColumn, Column, MarkedColumn, NumericColumn, PlainColumn
from torchplug.preprocessing.dates import DateColumn
from torchplug.preprocessing.moments import Moments, RunningMoments
from torchplug.preprocessing.percentiles import (
    NO_PERCENTILES,
    joined,
    percentiles_of_indicators,
    percentiles_of_numbers,
)
from torchplug.preprocessing.rules import MOST_CATEGORIES, EncodingRules
from torchplug.preprocessing.value_counts import ValueCounts

_CYCLE_ROWS = 2**17
"""Rows whose cycles are computed at once: up to 6 MiB in double precision."""


@dataclass(frozen=True)
class FittedColumn:
    """A fitted column, and statistics of its features over the training split, imputed values included.

    Args:
        column: it.
        moments: of its features.
        percentiles: of its first features, where these are scaled by rank.
    """

    column: Column
    moments: Moments
    percentiles: Array


def column_fit(raw: PlainColumn, rules: EncodingRules) -> ColumnFit:
    """Return the accumulator for a column.

    Args:
        raw: the unfitted column.
        rules: the user's choices.
    """
    return CategoryFit(raw.name, rules) if isinstance(raw, CategoricalColumn) else NumberFit(raw, rules)


class NumberFit:
    """Fits a column of numbers or dates.

    Args:
        raw: the unfitted column.
        rules: the user's choices.
    """

    def __init__(self, raw: NumericColumn | DateColumn, rules: EncodingRules) -> None:
        self._raw = raw
        self._rules = rules
        self._cyclic = replace(raw, cyclic=True) if isinstance(raw, DateColumn) and rules.dates == "cyclic" else None
        self._values, self._cycles = RunningMoments(), RunningMoments()
        self._missing = 0
        # mapped to quantiles, a sine and its cosine would leave their circle
        by_rank = rules.scale == "robust" or (rules.scale == "quantile" and self._cyclic is None)
        self._held = HeldValues() if by_rank else None
        self._typical: HeldValues | ValueCounts | None = None
        if rules.fills and rules.number_fill != "mean":
            self._typical = ValueCounts(bounded=True) if rules.streamed else HeldValues()

    def update(self, values: pl.Series, where: str) -> None:
        """Add a block of values from `Column.read`.

        Raises:
            DataError: for more distinct values than can be counted.
        """
        missing = values.null_count()
        present = values.drop_nulls() if missing else values
        numbers = present.to_numpy()
        self._missing += missing
        self._values.add(Moments.of([numbers]))
        if self._cyclic is not None:
            for start, stop in intervals(max(1, len(numbers)), _CYCLE_ROWS):
                self._cycles.add(Moments.of([*self._cyclic.parts(numbers[start:stop]).T]))
        if self._held is not None:
            self._held.update(present)
        if self._typical is not None:
            self._typical.update(present)
            if isinstance(self._typical, ValueCounts) and not self._typical.complete:
                remedy = "set impute to auto or mean, or leave it out with exclude"
                raise _too_many(self._raw.name, self._typical, where, remedy)

    def fitted(self) -> FittedColumn:
        """Return the column fitted on all blocks so far."""
        total = self._values.total()
        fill = self._fill(total) if self._rules.fills else None
        plain = self._plain(fill, float(total.low[0]) if total.count[0] else 0.0)
        if self._cyclic is not None:
            total = self._cycles.total()
        elif isinstance(plain, DateColumn):
            total = total.shifted(-plain.origin)
        if fill is not None and self._missing:
            filled = plain.parts(np.array([fill]))[0] if isinstance(plain, DateColumn) else np.array([fill])
            total += Moments.of_constants(filled, np.full(len(filled), float(self._missing)))
        rows = int(total.count[0])
        percentiles = self._percentiles(plain, fill)
        column = _marked(plain, self._missing, rows, self._rules)
        if column is not plain:
            total = Moments.joined([total, Moments.of_indicators([self._missing], rows)])
            percentiles = joined([percentiles, percentiles_of_indicators(self._rules.scale, [self._missing], rows)])
        return FittedColumn(column, total, percentiles)

    def _percentiles(self, plain: NumericColumn | DateColumn, fill: float | None) -> Array:
        """Those of the features, imputed values included."""
        if self._held is None:
            return NO_PERCENTILES
        values = self._held.filled(fill, self._missing)
        if isinstance(plain, NumericColumn):
            return percentiles_of_numbers(self._rules.scale, values[:, None])
        blocks = (plain.parts(values[start:stop]) for start, stop in intervals(len(values), _CYCLE_ROWS))
        return percentiles_of_numbers(self._rules.scale, np.concatenate(list(blocks)))

    def _plain(self, fill: float | None, first: float) -> NumericColumn | DateColumn:
        """Return the column by its fill value and its smallest value."""
        if isinstance(self._raw, NumericColumn):
            return replace(self._raw, fill=fill)
        origin = 0.0 if self._raw.kind == "time" else float(np.floor(first))
        return replace(self._raw, fill=fill, origin=origin, cyclic=self._cyclic is not None)

    def _fill(self, total: Moments) -> float:
        """Return the replacement of missing numbers; 0 if there is no number, when any would have no effect."""
        if not total.count[0]:
            return 0.0
        if self._typical is None:
            return float(total.mean[0])
        if isinstance(self._typical, HeldValues) and self._rules.number_fill == "median":
            return self._typical.median()
        return self._typical.most_frequent()


class CategoryFit:
    """Fits a column of categories.

    Args:
        name: the column.
        rules: the user's choices.

    Attributes:
        values: its categories; if not complete, they must be counted again before `fitted`.
    """

    def __init__(self, name: str, rules: EncodingRules) -> None:
        self._name = name
        self._rules = rules
        self._missing = 0
        self.values = ValueCounts(bounded=rules.streamed)

    def update(self, values: pl.Series, where: str) -> None:
        """Add a block of values from `Column.read`.

        Raises:
            DataError: for more categories than can be counted, unless the rarest share a feature.
        """
        self._missing += values.null_count()
        self.values.update(values.drop_nulls())
        if not self.values.complete and not self._rules.pools_unknown:
            remedy = "leave it out with exclude, or let --data.max_categories and --data.handle_unknown pool them"
            raise _too_many(self._name, self.values, where, remedy)

    def fitted(self) -> FittedColumn:
        """Return the column fitted on all blocks so far."""
        counts, rows = self.values.counts, self._missing + self.values.rows
        others = self.values.rows - counts.total()
        column = _marked(_categories(self._name, counts, self._rules, others), self._missing, rows, self._rules)
        ones = _ones(column, counts, self._missing, others)
        percentiles = percentiles_of_indicators(self._rules.scale, ones, rows)
        return FittedColumn(column, Moments.of_indicators(ones, rows), percentiles)


ColumnFit = NumberFit | CategoryFit


class HeldValues:
    """The values of a column, held in memory for statistics that need all of them."""

    def __init__(self) -> None:
        self._blocks: list[pl.Series] = []

    def update(self, present: pl.Series) -> None:
        """Hold the values of a block, none of which is missing."""
        self._blocks.append(present)

    def filled(self, fill: float | None, missing: int) -> Array:
        """Return all values (n,), the missing ones last, as another is in their place."""
        present = pl.concat(self._blocks).to_numpy()
        return present if fill is None or not missing else np.append(present, np.full(missing, fill))

    def median(self) -> float:
        """Return the median."""
        return float(np.median(pl.concat(self._blocks).to_numpy()))

    def most_frequent(self) -> float:
        """Return the number that occurs most often, the smallest of equally frequent ones."""
        return float(pl.concat(self._blocks).mode().min())  # type: ignore[arg-type]


def _too_many(name: str, counts: ValueCounts, where: str, remedy: str) -> DataError:
    return DataError(f"{where}: column '{name}' has more than {counts.most} different values: {remedy}")


def _marked(column: PlainColumn, missing: int, rows: int, rules: EncodingRules) -> Column:
    """Return a fitted column, with a feature for missing values if the rules require one.

    Args:
        column: fitted on the training split.
        missing: rows of the training split without a value.
        rows: rows of the training split.
        rules: the user's choices.
    """
    return MarkedColumn(column) if rules.indicates and 0 < missing < rows else column


def _ones(column: Column, counts: Mapping[str, int], missing: int, others: int) -> NDArray[np.int64]:
    """Return the number of rows in which each feature of a category is 1, (features,).

    Args:
        column: fitted on these rows.
        counts: category → rows.
        missing: rows without a value.
        others: rows of further categories.
    """
    if isinstance(column, MarkedColumn):
        return np.append(_ones(column.column, counts, missing, others), missing)
    assert isinstance(column, CategoricalColumn), "numbers have no counts"
    found = [counts[level] for level in column.levels]
    if column.has_other:
        own = sum(found) + (0 if column.reference is None else counts[column.reference])
        found.append(sum(counts.values()) + others - own)
    numbers = np.array(found, dtype=np.int64)
    if column.fill is not None and (place := column.place_of(column.fill)) < len(numbers):
        numbers[place] += missing
    return numbers


def _categories(name: str, counts: Mapping[str, int], rules: EncodingRules, others: int) -> CategoricalColumn:
    """Return a column of categories, fitted on their counts in the training split.

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
