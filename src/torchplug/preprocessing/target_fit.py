"""How a target is read, and the accumulator that fits its coding, fed with blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from torchplug.components.task import TASKS, Task
from torchplug.errors import DataError
from torchplug.preprocessing.moments import Moments, RunningMoments
from torchplug.preprocessing.rows import Rows
from torchplug.preprocessing.target import TargetCoding, numbers_of, refuse_gaps, refuse_labels
from torchplug.preprocessing.value_counts import DistinctValues
from torchplug.registry.component import Kind, TargetInfo
from torchplug.tables import enumerate_names

# Whole numbers are class labels up to this many different ones, or if each occurs this often on average; beyond, as
# with the diabetes set's 214 scores in 442 rows, they are measurements.
_FEW_LABELS = 20
_ROWS_PER_LABEL = 5


@dataclass(frozen=True)
class TargetReading:
    """The interpretation of a table's target columns, decided on all rows.

    Args:
        kind: the loss's kind, resolved.
        columns: the target columns.
        labels: whether the one column holds class labels.
    """

    kind: Kind
    columns: tuple[str, ...]
    labels: bool

    @property
    def task(self) -> Task:
        """All that follows from the kind."""
        return TASKS[self.kind]


class TargetFit:
    """Decides from all rows how a target is read, and fits its coding on the training split.

    Args:
        head: a frame with the target columns' types.
        columns: the target columns.
        kind: the loss's; None: labels if the one column is not numeric, else regression.
        loss: the loss's name, for messages; empty if there is none.
        bounded: whether the number of distinct labels is bounded, as for streamed rows.
    """

    def __init__(
        self, head: pl.DataFrame, columns: Sequence[str], kind: Kind | None, loss: str, *, bounded: bool = False
    ) -> None:
        self._columns = tuple(columns)
        self._numeric = all(head[column].dtype.is_numeric() for column in columns)
        self._kind: Kind = kind or ("regression" if self._numeric or len(columns) > 1 else "multiclass")
        self._loss = loss or "the loss"
        self._all, self._training = DistinctValues(bounded=bounded), DistinctValues(bounded=bounded)
        self._moments = RunningMoments()

    @property
    def _task(self) -> Task:
        return TASKS[self._kind]

    @property
    def _is_one_class_column(self) -> bool:
        """Whether all rows together decide between labels and probabilities."""
        return self._task.has_classes and len(self._columns) == 1

    def check(self, frame: pl.DataFrame, where: str, rows: Rows | None = None) -> None:
        """Add a block of all rows, and refuse what the kind of loss cannot use.

        Args:
            frame: the rows, with the target columns.
            where: their name, for messages.
            rows: their positions in the user's table, from 0; None: all of it.

        Raises:
            DataError: for missing and infinite values, or a target that does not fit the kind.
        """
        refuse_gaps(frame, self._columns, where, rows)
        if not self._task.has_classes:
            for column in self._columns:
                refuse_labels(frame[column], self._loss, where)
        elif self._is_one_class_column:
            self._all.update(frame[self._columns[0]])
            if not self._all.complete and not self._numeric:
                raise DataError(f"{where}: target '{self._columns[0]}' has more than {self._all.most} labels")
        elif self._task.has_indices:
            _refuse_probabilities(frame.select(self._columns), self._loss, where, rows)
        else:
            names = enumerate_names(self._columns)
            raise DataError(f"{where}: {self._loss} takes one target column, not {len(self._columns)}: {names}")

    def reading(self, where: str) -> TargetReading:
        """Decide whether the target holds labels, numbers or probabilities.

        Args:
            where: the table's name, for messages.

        Raises:
            DataError: for numbers that are neither labels nor probabilities where the kind needs these.
        """
        labels = self._is_one_class_column and self._holds_labels()
        if self._is_one_class_column and not labels:
            self._refuse_measurements(where)
        return TargetReading(self._kind, self._columns, labels)

    def update(self, frame: pl.DataFrame) -> None:
        """Add a block of the training split's rows, which `check` has seen."""
        if self._is_one_class_column:
            self._training.update(frame[self._columns[0]])
        if self._numeric:
            self._moments.add(Moments.of([*numbers_of(frame, self._columns).numpy().T]))

    def coding(
        self, reading: TargetReading, where: str, *, standardize: bool, center: bool, clip: bool = False
    ) -> TargetCoding:
        """Return the classes, or mean and population standard deviation, of the training split.

        Args:
            reading: of all rows.
            where: the table's name, for messages.
            standardize: whether a target of the regression kind is standardized.
            center: whether it is shifted to mean zero as well.
            clip: whether predictions are clipped to the range of its values.

        Raises:
            DataError: for a single class or a constant number.
        """
        k = len(self._columns)
        zeros, ones = torch.zeros(k, dtype=torch.float64), torch.ones(k, dtype=torch.float64)
        if reading.labels:
            classes = _classes(self._training.values)
            if len(classes) == 1:
                raise DataError(
                    f"{where}: target '{self._columns[0]}' has one class ({classes[0]}) in the training split: "
                    "nothing to tell apart"
                )
            return TargetCoding(self._kind, TargetInfo(self._columns, classes), zeros, ones)
        info = TargetInfo(self._columns, self._columns if self._task.has_indices else None)
        moments = self._moments.total()
        (constant,) = (moments.low == moments.high).nonzero()
        if len(constant) and not self._task.has_indices:
            j = int(constant[0])
            raise DataError(
                f"{where}: target '{self._columns[j]}' is {moments.low[j]:g} in every row of the training split: "
                "nothing to predict"
            )
        limits = torch.from_numpy(np.stack([moments.low, moments.high])) if clip else None
        if not standardize or not self._task.standardizes:
            return TargetCoding(self._kind, info, zeros, ones, limits)
        mean, spread = (torch.from_numpy(statistic) for statistic in moments.mean_and_spread())
        return TargetCoding(self._kind, info, mean if center else zeros, spread, limits)

    def _holds_labels(self) -> bool:
        if not self._numeric:
            return True
        values = self._all.values.cast(pl.Float64)
        whole = self._all.complete and bool((values == values.floor()).all())
        return whole and (len(values) <= _FEW_LABELS or self._all.rows >= _ROWS_PER_LABEL * len(values))

    def _refuse_measurements(self, where: str) -> None:
        values, takes_probabilities = self._all.values.cast(pl.Float64).to_numpy(), self._task.takes_probabilities
        low, high = float(values.min()), float(values.max())
        if not takes_probabilities or low < 0 or high > 1:
            wanted = "class labels or probabilities in [0, 1]" if takes_probabilities else "class labels"
            raise DataError(
                f"{where}: {self._loss} needs {wanted}, and target '{self._columns[0]}' has real values from {low:g} "
                f"to {high:g}: choose a loss for numbers such as mse, or give the classes as text"
            )


def guess_kind(blocks: Iterable[pl.DataFrame]) -> tuple[Kind, str | None]:
    """Return the kind of loss that suits a target, and a note if whole numbers are taken for classes, else None.

    Text, booleans and categories are classes. So are two whole numbers, and whole numbers that count from 0 or 1 to at
    most 20 classes, each of which occurs 5 times on average. Everything else is numbers.

    Args:
        blocks: the target columns of all rows, perhaps a block of rows at a time.
    """
    found: set[Any] = set()
    rows, numeric, name = 0, False, ""
    for frame in blocks:
        if frame.width > 1:
            return "regression", None
        series = frame.to_series().drop_nulls()
        name, numeric = series.name, series.dtype.is_numeric()
        if numeric:
            series = series.cast(pl.Float64).drop_nans()
            if not bool((series == series.floor()).all()):
                return "regression", None
        found.update(series.unique().to_list())
        rows += len(series)
        if len(found) > _FEW_LABELS:
            return ("regression" if numeric else "multiclass"), None
    if len(found) == 2:
        return "binary", None
    if not numeric:
        return "multiclass", None
    low, high = min(found, default=0.0), max(found, default=0.0)
    if low not in (0, 1) or high - low + 1 != len(found) or len(found) < 2 or rows < _ROWS_PER_LABEL * len(found):
        return "regression", None
    return "multiclass", (
        f"target '{name}' is read as {len(found)} classes, {low:g} to {high:g}; --model.loss mse reads it as numbers"
    )


def _classes(series: pl.Series) -> tuple[str | int | bool, ...]:
    """The distinct labels in order, as plain types."""
    if series.dtype == pl.Boolean:
        return tuple(bool(label) for label in series.unique().sort())
    if series.dtype.is_numeric():
        return tuple(int(label) for label in series.cast(pl.Float64).unique().sort())
    return tuple(str(label) for label in series.cast(pl.String).unique().sort())


def _refuse_probabilities(frame: pl.DataFrame, name: str, where: str, rows: Rows | None) -> None:
    for column in frame.columns:
        refuse_labels(frame[column], name, where)
    values = numbers_of(frame, frame.columns)
    bad = ((values < 0).any(1) | ((values.sum(1) - 1).abs() > 1e-6)).nonzero()
    if len(bad):
        row = int(bad[0])
        number = 1 + (row if rows is None else int(rows[row]))
        raise DataError(
            f"{where}: {name} reads several target columns as probabilities that add up to 1, and row {number} has "
            f"{enumerate_names(f'{value:g}' for value in values[row].tolist())}: correct it, or give one target column"
        )
