"""The target as a loss wants it, and predictions back in the target's labels and units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from torchplug.component import Kind, TargetInfo
from torchplug.errors import DataError
from torchplug.preprocessing.refusals import refuse_infinite, refuse_missing, refuse_type
from torchplug.preprocessing.rows import Rows, row_number
from torchplug.preprocessing.statistics import mean_and_spread
from torchplug.tables import Types, enumerate_names
from torchplug.task import TASKS, Task

_MISSING_REMEDY = "a row without its target cannot be learned from: remove these rows"

# Whole numbers are class labels up to this many different ones, or if each occurs this often on average; beyond, as
# with the diabetes set's 214 scores in 442 rows, they are measurements.
_FEW_LABELS = 20
_ROWS_PER_LABEL = 5


@dataclass(frozen=True)
class TargetReading:
    """How a table's target columns are to be understood, decided on all rows.

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


def read_target(
    frame: pl.DataFrame, columns: Sequence[str], kind: Kind | None, loss: str, where: str, rows: Rows | None = None
) -> TargetReading:
    """Decide whether the target is labels, numbers or probabilities, and refuse what the kind cannot use.

    Args:
        frame: every row of the table that is to be split.
        columns: the target columns.
        kind: the loss's; None: labels if the column is no number, else regression.
        loss: the loss's name, for messages; empty where there is none.
        where: the table's name, for messages.
        rows: where the rows stand in the user's table, from 0; None: they are the whole of it.

    Raises:
        DataError: for missing and infinite values, one class, or a target that does not fit the kind.
    """
    refuse_gaps(frame, columns, where, rows)
    name = loss or "the loss"
    if kind is None:
        kind = "multiclass" if len(columns) == 1 and not frame[columns[0]].dtype.is_numeric() else "regression"
    task = TASKS[kind]
    if not task.has_classes:
        for column in columns:
            _refuse_labels(frame[column], name, where)
        return TargetReading(kind, tuple(columns), labels=False)
    if len(columns) > 1:
        if not task.has_indices:
            raise DataError(f"{where}: {name} takes one target column, not {len(columns)}: {enumerate_names(columns)}")
        _refuse_probabilities(frame.select(columns), name, where, rows)
        return TargetReading(kind, tuple(columns), labels=False)
    series = frame[columns[0]]
    if _holds_labels(series):
        return TargetReading(kind, tuple(columns), labels=True)
    low, high = _range(series)
    if not task.takes_probabilities or low < 0 or high > 1:
        wanted = "class labels or probabilities in [0, 1]" if task.takes_probabilities else "class labels"
        raise DataError(
            f"{where}: {name} needs {wanted}, and target '{series.name}' has real values from {low:g} to {high:g}: "
            "choose a loss for numbers such as mse, or give the classes as text"
        )
    return TargetReading(kind, tuple(columns), labels=False)


def guess_kind(blocks: Iterable[pl.DataFrame]) -> tuple[Kind, str | None]:
    """The kind of loss that a target asks for, and a note where whole numbers are read as classes, else None.

    Text, words and categories are classes. So are two whole numbers, and whole numbers that count from 0 or 1 to at
    most 20 classes, each of which occurs 5 times on average. All else is numbers.

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


@dataclass(frozen=True)
class TargetCoding:
    """A target's classes or units, fitted on the training part.

    Args:
        kind: the loss's kind.
        info: column names and, where there are any, classes in the order of their indices.
        center: (k,) float64, subtracted from regression targets.
        scale: (k,) float64, which regression targets are divided by.
    """

    kind: Kind
    info: TargetInfo
    center: Tensor
    scale: Tensor

    @classmethod
    def fit(
        cls, frame: pl.DataFrame, reading: TargetReading, *, standardize: bool, center: bool, where: str
    ) -> TargetCoding:
        """Learn classes, or mean and population standard deviation, from the training part.

        Raises:
            DataError: for a single class or a constant number, from which nothing can be learned.
        """
        k = len(reading.columns)
        zeros, ones = torch.zeros(k, dtype=torch.float64), torch.ones(k, dtype=torch.float64)
        if reading.labels:
            classes = _classes(frame[reading.columns[0]])
            if len(classes) == 1:
                raise DataError(
                    f"{where}: target '{reading.columns[0]}' has one class ({classes[0]}) in the training part: "
                    "nothing to tell apart"
                )
            return cls(reading.kind, TargetInfo(reading.columns, classes), zeros, ones)
        info = TargetInfo(reading.columns, reading.columns if reading.task.has_indices else None)
        values = _numbers(frame, reading.columns)
        constant = values.amax(0) == values.amin(0)
        if constant.any() and not reading.task.has_indices:
            j = int(constant.nonzero()[0])
            raise DataError(
                f"{where}: target '{reading.columns[j]}' is {values[0, j]:g} in every row of the training part: "
                "nothing to predict"
            )
        if not standardize or not reading.task.standardizes:
            return cls(reading.kind, info, zeros, ones)
        mean, spread = (torch.from_numpy(statistic) for statistic in mean_and_spread(values.numpy()))
        return cls(reading.kind, info, mean if center else zeros, spread)

    @property
    def task(self) -> Task:
        """All that follows from the kind."""
        return TASKS[self.kind]

    @property
    def labels(self) -> bool:
        """Whether the target is one column of class labels."""
        return self.info.classes is not None and len(self.info.columns) == 1

    @property
    def types(self) -> Types:
        """The types by which a new table's target columns are read."""
        classes = self.info.classes or ()
        if self.labels and not all(isinstance(label, int) for label in classes):
            return dict.fromkeys(self.info.columns, pl.String)
        return dict.fromkeys(
            self.info.columns, pl.Boolean if self.labels and isinstance(classes[0], bool) else pl.Float64
        )

    def encode(self, frame: pl.DataFrame, where: str, rows: Rows | None = None) -> Tensor:
        """The target of these rows as the loss wants it.

        Shape:
            (n, k) float64; (n, 1) zeros and ones for two-class losses; (n,) int64 indices for multiclass labels.

        Raises:
            DataError: for missing or infinite values, a label that training never saw, or text instead of numbers.
        """
        columns = self.info.columns
        refuse_gaps(frame, columns, where, rows)
        if not self.labels:
            for column in columns:
                _refuse_labels(frame[column], f"the {self.kind} target", where)
            return (_numbers(frame, columns) - self.center) / self.scale
        codes = self._indices(frame[columns[0]], where, rows)
        return codes if self.task.has_indices else codes.double().unsqueeze(1)

    def _indices(self, series: pl.Series, where: str, rows: Rows | None) -> Tensor:
        assert self.info.classes is not None, "labels have classes"
        texts = _label_texts(series)
        known = [_text(label) for label in self.info.classes]
        codes = texts.replace_strict(known, list(range(len(known))), default=-1, return_dtype=pl.Int64)
        unseen = codes == -1
        if unseen.any():
            raise DataError(
                f"{where}: target '{series.name}' has the label '{texts.filter(unseen)[0]}' in row "
                f"{row_number(unseen, rows)}, which is not among the training part's: {enumerate_names(known)}"
            )
        return torch.tensor(codes.to_numpy())

    def original_units(self, values: Tensor) -> Tensor:
        """Undo the standardization of values (n, m), m a multiple of k with a target's columns side by side."""
        each = values.shape[1] // len(self.info.columns)
        if self.task.has_classes:
            return values
        scale, center = (t.to(values).repeat_interleave(each) for t in (self.scale, self.center))
        return values * scale + center

    def decode(self, predictions: Tensor, names: Sequence[str]) -> pl.DataFrame:
        """Predictions (n, m), link applied and in original units, as a table with the target's labels.

        Args:
            predictions: numbers in original units, probabilities, or a margin loss's scores.
            names: a column name for each of the m numbers of regression and count.
        """
        predictions = predictions.detach().cpu().double()
        if self.task.label is None:
            return _table(names, predictions)
        classes, column = self.info.classes, self.info.columns[0] if len(self.info.columns) == 1 else "label"
        if classes is None:
            return _table([column], predictions)
        labels = pl.Series(column, [classes[i] for i in self.task.label(predictions).tolist()])
        if self.task.probabilities is None:
            table = _table(["score"], predictions)
        else:
            names = [f"probability_{_text(label)}" for label in classes]
            table = _table(names, self.task.probabilities(predictions))
        return table.insert_column(0, labels)

    def output_names(self, outputs: int) -> list[str]:
        """What each of the network's outputs speaks for: a class, or a target column."""
        if self.task.has_classes and self.info.classes is not None:
            labels = [_text(label) for label in self.info.classes]
            return labels[1:] if outputs == 1 else labels
        each = outputs // len(self.info.columns)
        return [f"{c}[{j}]" if each > 1 else c for c in self.info.columns for j in range(each)]

    def state(self) -> dict[str, Any]:
        """The coding as plain data and tensors."""
        return {
            "kind": self.kind,
            "columns": list(self.info.columns),
            "classes": None if self.info.classes is None else list(self.info.classes),
            "center": self.center.clone(),
            "scale": self.scale.clone(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TargetCoding:
        """The coding that `state` described."""
        classes = None if state["classes"] is None else tuple(state["classes"])
        return cls(state["kind"], TargetInfo(tuple(state["columns"]), classes), state["center"], state["scale"])


def _table(names: Sequence[str], values: Tensor) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(name, values[:, j].numpy()) for j, name in enumerate(names)])


def _numbers(frame: pl.DataFrame, columns: Sequence[str]) -> Tensor:
    return torch.tensor(frame.select(pl.col(columns).cast(pl.Float64)).to_numpy(), dtype=torch.float64)


def _range(series: pl.Series) -> tuple[float, float]:
    values = series.cast(pl.Float64).to_numpy()
    return float(values.min()), float(values.max())


def _holds_labels(series: pl.Series) -> bool:
    if not series.dtype.is_numeric():
        return True
    values = series.cast(pl.Float64)
    distinct = values.n_unique()
    whole = bool((values == values.floor()).all())
    return whole and (distinct <= _FEW_LABELS or len(values) >= _ROWS_PER_LABEL * distinct)


def _label_texts(series: pl.Series) -> pl.Series:
    """Labels as text, whole numbers alike whether a file stored them as 1, 1.0 or "1"."""
    if series.dtype.is_numeric():
        numbers = series.cast(pl.Float64)
        whole = bool((numbers == numbers.floor()).all())
        return (numbers.cast(pl.Int64) if whole else numbers).cast(pl.String)
    return series.cast(pl.String)


def _classes(series: pl.Series) -> tuple[str | int | bool, ...]:
    """The different labels in order, as plain types."""
    if series.dtype == pl.Boolean:
        return tuple(bool(label) for label in series.unique().sort())
    if series.dtype.is_numeric():
        return tuple(int(label) for label in series.cast(pl.Float64).unique().sort())
    return tuple(str(label) for label in series.cast(pl.String).unique().sort())


def _text(label: object) -> str:
    # polars writes booleans in lower case
    return str(label).lower() if isinstance(label, bool) else str(label)


def _refuse_labels(series: pl.Series, name: str, where: str) -> None:
    if series.dtype.is_numeric():
        return
    labels = series.cast(pl.String).unique().sort()
    fit = "bce" if len(labels) == 2 else "cross_entropy"
    raise DataError(
        f"{where}: {name} needs numbers, and target '{series.name}' has labels ({enumerate_names(labels, limit=3)}): "
        f"choose a loss for classes such as {fit}, or another target"
    )


def refuse_gaps(frame: pl.DataFrame, columns: Sequence[str], where: str, rows: Rows | None = None) -> None:
    """Refuse types that are no target, and missing and infinite values.

    Raises:
        DataError: naming column, count and first row.
    """
    for column in columns:
        refuse_type(frame[column], where)
    present = [s.fill_nan(None) if s.dtype.is_float() else s for s in frame.select(columns)]
    refuse_missing(present, where, _MISSING_REMEDY, rows)
    for series in present:
        refuse_infinite(series, where, rows)


def _refuse_probabilities(frame: pl.DataFrame, name: str, where: str, rows: Rows | None) -> None:
    for column in frame.columns:
        _refuse_labels(frame[column], name, where)
    values = _numbers(frame, frame.columns)
    bad = ((values < 0).any(1) | ((values.sum(1) - 1).abs() > 1e-6)).nonzero()
    if len(bad):
        row = int(bad[0])
        number = 1 + (row if rows is None else int(rows[row]))
        raise DataError(
            f"{where}: {name} reads several target columns as probabilities that add up to 1, and row {number} has "
            f"{enumerate_names(f'{value:g}' for value in values[row].tolist())}: correct it, or give one target column"
        )
