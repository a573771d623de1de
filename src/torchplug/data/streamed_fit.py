"""Preprocessing learned from a file in one pass over its rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
import torch

from torchplug.data.far_values import FarValues
from torchplug.data.parquet import chunk_rows
from torchplug.data.parts import PARTS, Rows
from torchplug.data.selection import Piece, Selection, refuse_no_row
from torchplug.data.settings import TableSettings
from torchplug.data.statistics import (
    DistinctValues,
    FrequentValues,
    Moments,
    RunningMoments,
    ValueCounts,
)
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements, EncodingRules, Preprocessing, TargetReading, read_target
from torchplug.preprocessing.columns import Array, CategoricalColumn, Column, MarkedColumn, NumericColumn, raw_column
from torchplug.preprocessing.dates import DateColumn
from torchplug.preprocessing.features import fit_categories, fit_number, marked, ones, read_block, read_column
from torchplug.preprocessing.refusals import IMPUTE_REMEDY, refuse_missing
from torchplug.preprocessing.target import TargetCoding, refuse_gaps
from torchplug.task import TASKS


def fit(
    settings: TableSettings,
    request: DataRequirements,
    selection: Selection,
    features: Sequence[str],
    target: Sequence[str],
    far: FarValues,
) -> Preprocessing:
    """Learn from the training part what `Preprocessing.fit` and `TargetCoding.fit` learn from one in memory.

    Args:
        settings: the user's choices.
        request: what the module asks for.
        selection: the source's rows.
        features: the feature columns.
        target: the target columns.
        far: looks at all rows, too.

    Returns:
        The same preprocessing up to rounding.

    Raises:
        DataError: for what is refused in memory too, and for columns with more values than can be counted.
    """
    path, head = selection.table.path, selection.table.head
    counts = np.zeros(len(PARTS), dtype=np.int64)
    rules = settings.rules(request, streamed=True)
    columns = {name: _feature(head[name], rules) for name in features}
    without_target = 0
    goal = _Target(request, target, head)
    for piece in selection.pieces(chunk_rows(len(features) + len(target)), [*features, *target]):
        without_target += piece.without_target
        goal.look(piece)
        raw = piece.frame.select(features).get_columns()
        far.look(raw, piece.rows)
        table = pl.DataFrame(list(read_block(map(raw_column, raw), raw, piece.where, piece.rows)))
        if not rules.fills:
            refuse_missing(table.get_columns(), piece.where, IMPUTE_REMEDY, piece.rows)
        for trained in Piece(table, piece.rows, piece.parts, piece.where).of(0).frame:
            columns[trained.name].look(trained, piece.where)
        goal.learn(piece.of(0))
        counts += np.bincount(piece.parts, minlength=len(PARTS))
    if counts.sum() == 0:
        refuse_no_row(selection, without_target)
    if counts.sum() == 1:
        raise DataError(f"{path} has one row to learn from: training needs at least two")
    reading = goal.reading(path)
    settings.refuse_reading(reading, request, path)
    settings.splitting.refuse_empty(counts.tolist(), settings.own, path)
    _count_exactly(columns.values(), selection)
    coding = goal.coding(reading, settings.scales_target(request), path)
    return _preprocessing(settings, rules, request.center, list(columns.values()), coding, int(counts[0]))


def _preprocessing(
    settings: TableSettings,
    rules: EncodingRules,
    center: bool,
    columns: Sequence[_Feature],
    coding: TargetCoding,
    rows: int,
) -> Preprocessing:
    fitted = [column.fitted(rules, rows) for column in columns]
    moments = Moments.joined([column.moments(encoder, rows) for column, encoder in zip(columns, fitted, strict=True)])
    d = len(moments.mean)
    if d == 0:
        raise DataError("no feature is left: every column is a category with a single level")
    mean, spread = moments.mean_and_spread() if settings.standardize else (np.zeros(d), np.ones(d))
    if not center:
        mean = np.zeros(d)
    zero_variance = moments.all_equal(mean)
    center_, scale, silent_ = (torch.from_numpy(vector) for vector in (mean, spread, zero_variance))
    return Preprocessing(tuple(fitted), center_, scale, silent_, coding)


# ---------------------------------------------------------------------- features


class _Numbers:
    """What is learned of a column of numbers or dates."""

    def __init__(self, raw: NumericColumn | DateColumn, rules: EncodingRules) -> None:
        self._raw = raw
        self._cyclic = isinstance(raw, DateColumn) and rules.dates == "cyclic"
        self._counts = ValueCounts(raw.name) if rules.number_fill == "most_frequent" else None
        self._values = RunningMoments()
        self._cycles = RunningMoments()
        self._missing = 0

    def look(self, trained: pl.Series, where: str) -> None:
        self._missing += trained.null_count()
        values = trained.drop_nulls().to_numpy()
        self._values.add(Moments.of([values]))
        if isinstance(self._raw, DateColumn) and self._cyclic:
            self._cycles.add(Moments.of([*replace(self._raw, cyclic=True).parts(values).T]))
        if self._counts is not None:
            self._counts.add(trained, where, "set impute to auto or mean, or leave it out with exclude")

    def fitted(self, rules: EncodingRules, rows: int) -> Column:
        total = self._values.total()
        first = float(total.low[0]) if total.count[0] else 0.0
        column = fit_number(self._raw, self._typical(total) if rules.fills else None, first, rules)
        return marked(column, self._missing, rows, rules)

    def _typical(self, total: Moments) -> float:
        if not total.count[0]:
            return 0.0
        return float(total.mean_and_spread()[0][0]) if self._counts is None else self._counts.most_frequent()

    def moments(self, column: Column, rows: int) -> Moments:
        """Of the encoded column, what was filled in included."""
        plain = column.column if isinstance(column, MarkedColumn) else column
        total = self._cycles.total() if self._cyclic else self._values.total()
        fill = None if plain.fill is None else np.array([plain.fill], dtype=np.float64)
        if isinstance(plain, DateColumn):
            total = total if self._cyclic else total.shifted(-plain.origin)
            fill = None if fill is None else plain.parts(fill)[0]
        if fill is not None:
            total += Moments.of_constants(fill, np.full(len(fill), float(self._missing)))
        return total if plain is column else Moments.joined([total, Moments.of_indicators([self._missing], rows)])


class _Categories:
    """What is learned of a column of categories."""

    def __init__(self, name: str, rules: EncodingRules) -> None:
        self.name = name
        self._bounded = rules.pools_unknown
        self.values = FrequentValues()
        self._missing = 0

    def look(self, trained: pl.Series, where: str) -> None:
        self._missing += trained.null_count()
        self.values.add(trained)
        if not self.values.complete and not self._bounded:
            raise DataError(
                f"{where}: column '{self.name}' has more than {self.values.most} different values: leave it out with "
                "exclude, or let --data.max_categories and --data.handle_unknown pool them"
            )

    @property
    def _others(self) -> int:
        return self.values.rows - self.values.counts.total()

    def fitted(self, rules: EncodingRules, rows: int) -> Column:
        column = fit_categories(self.name, self.values.counts, rules, self._others)
        return marked(column, self._missing, rows, rules)

    def moments(self, column: Column, rows: int) -> Moments:
        """Of the 0/1 features, what was filled in included."""
        return Moments.of_indicators(ones(column, self.values.counts, self._missing, self._others), rows)


def _count_exactly(columns: Iterable[_Feature], selection: Selection) -> None:
    """Go through the training part again for columns of too many categories to be counted at once."""
    for column in columns:
        if isinstance(column, _Categories) and not column.values.complete:
            pieces = selection.pieces(chunk_rows(1), [column.name])
            frames = ((piece.of(0).frame, piece.where) for piece in pieces)
            column.values.exactly(read_column(frame[column.name], where) for frame, where in frames)


_Feature = _Numbers | _Categories


def _feature(series: pl.Series, rules: EncodingRules) -> _Feature:
    raw = raw_column(series)
    return _Categories(series.name, rules) if isinstance(raw, CategoricalColumn) else _Numbers(raw, rules)


# ---------------------------------------------------------------------- the target


@dataclass
class _Target:
    """What is learned of the target: of all rows, how it is to be read; of the training part, classes or moments."""

    request: DataRequirements
    columns: Sequence[str]
    head: pl.DataFrame
    _all: DistinctValues = field(default_factory=DistinctValues)
    _trained: DistinctValues = field(default_factory=DistinctValues)
    _moments: RunningMoments = field(default_factory=RunningMoments)
    _reading: TargetReading | None = None

    @property
    def _may_be_labels(self) -> bool:
        """Whether it is one column that a loss for classes may take: then all rows decide, not each piece."""
        if len(self.columns) > 1:
            return False
        kind = self.request.kind
        return not self.head[self.columns[0]].dtype.is_numeric() if kind is None else TASKS[kind].has_classes

    def look(self, piece: Piece) -> None:
        if not self._may_be_labels:
            self._reading = self._read(piece.frame, piece.where, piece.rows)
            return
        refuse_gaps(piece.frame, self.columns, piece.where, piece.rows)
        series = piece.frame[self.columns[0]]
        self._all.add(series)
        if not self._all.few and not series.dtype.is_numeric():
            raise DataError(f"{piece.where}: target '{series.name}' has more than {len(self._all.values) - 1} labels")

    def learn(self, train: Piece) -> None:
        if self._may_be_labels:
            self._trained.add(train.frame[self.columns[0]])
        if all(train.frame[column].dtype.is_numeric() for column in self.columns):
            self._moments.add(Moments.of([_numbers(train.frame[column]) for column in self.columns]))

    def reading(self, where: str) -> TargetReading:
        if self._reading is None:
            self._reading = self._read(pl.DataFrame([self._all.digest()]), where, None)
        return self._reading

    def _read(self, frame: pl.DataFrame, where: str, rows: Rows | None) -> TargetReading:
        return read_target(frame, self.columns, self.request.kind, self.request.loss, where, rows)

    def coding(self, reading: TargetReading, standardize: bool, where: str) -> TargetCoding:
        if reading.labels:
            classes = pl.DataFrame([self._trained.values])
            return TargetCoding.fit(classes, reading, standardize=False, center=False, where=where)
        moments = self._moments.total()
        # of numbers, the extremes tell whether there is anything to predict
        extremes = pl.DataFrame({column: [moments.low[j], moments.high[j]] for j, column in enumerate(self.columns)})
        coding = TargetCoding.fit(extremes, reading, standardize=False, center=False, where=where)
        if not standardize or not reading.task.standardizes:
            return coding
        mean, spread = (torch.from_numpy(statistic) for statistic in moments.mean_and_spread())
        return replace(coding, center=mean if self.request.center else coding.center, scale=spread)


def _numbers(series: pl.Series) -> Array:
    values: Array = series.cast(pl.Float64).to_numpy()
    return values
