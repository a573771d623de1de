"""Encoding of the target for a loss, and of predictions back to labels and units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from torchplug.components.task import TASKS, Task
from torchplug.errors import DataError
from torchplug.preprocessing.refusals import refuse_infinite, refuse_missing, refuse_type
from torchplug.preprocessing.rows import Rows, row_number
from torchplug.registry.component import Kind, TargetInfo, Unit
from torchplug.tables import Types, enumerate_names

_MISSING_REMEDY = "a row without its target cannot be learned from: remove these rows"


@dataclass(frozen=True)
class TargetCoding:
    """A target's classes or units, fitted on the training split by `TargetFit`.

    Args:
        kind: the loss's kind.
        info: column names and, if there are any, classes in the order of their indices.
        center: (k,) float64, subtracted from regression targets.
        scale: (k,) float64, which regression targets are divided by.
        limits: (2, k) float64, the least and the greatest value of each column, to which predictions are clipped; None:
            they are not.
    """

    kind: Kind
    info: TargetInfo
    center: Tensor
    scale: Tensor
    limits: Tensor | None = None

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
        """Return the target of these rows in the form that the loss needs.

        Shape:
            (n, k) float64; (n, 1) zeros and ones for two-class losses; (n,) int64 indices for multiclass labels.

        Raises:
            DataError: for missing or infinite values, an unknown label, or text instead of numbers.
        """
        columns = self.info.columns
        refuse_gaps(frame, columns, where, rows)
        if not self.labels:
            for column in columns:
                refuse_labels(frame[column], f"the {self.kind} target", where)
            return (numbers_of(frame, columns) - self.center) / self.scale
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
                f"{row_number(unseen, rows)}, which is not among the training split's: {enumerate_names(known)}"
            )
        return torch.tensor(codes.to_numpy())

    def original_units(self, values: Tensor, units: Sequence[Unit] = ("location",)) -> Tensor:
        """Undo the standardization of values (n, m), m a multiple of k with a target's columns side by side.

        Args:
            values: predictions or targets.
            units: of each of a target's columns, or of all.
        """
        targets = len(self.info.columns)
        each = values.shape[1] // targets
        if self.task.has_classes:
            return values
        scale, center = (t.to(values).repeat_interleave(each) for t in (self.scale, self.center))
        columns = _units_of_each(units, targets * each)
        if any(unit != "location" for unit in columns):
            scale[[unit == "none" for unit in columns]] = 1.0
            center[[unit != "location" for unit in columns]] = 0.0
        return values * scale + center

    def clipped(self, values: Tensor, units: Sequence[Unit] = ("location",)) -> Tensor:
        """Clip predicted locations in original units to the training split's range, if that was asked for.

        Args:
            values: predictions (n, m), m a multiple of k with a target's columns side by side.
            units: of each of a target's columns, or of all.
        """
        if self.limits is None:
            return values
        each = values.shape[1] // len(self.info.columns)
        low, high = self.limits.to(values).repeat_interleave(each, dim=1)
        clipped, columns = values.clamp(low, high), _units_of_each(units, len(low))
        if all(unit == "location" for unit in columns):
            return clipped
        located = torch.tensor([unit == "location" for unit in columns], device=values.device)
        return torch.where(located, clipped, values)

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
        """The class or target column of each of the network's outputs."""
        if self.task.has_classes and self.info.classes is not None:
            labels = [_text(label) for label in self.info.classes]
            return labels[1:] if outputs == 1 else labels
        each = outputs // len(self.info.columns)
        return [f"{c}[{j}]" if each > 1 else c for c in self.info.columns for j in range(each)]

    def state(self) -> dict[str, Any]:
        """Return the coding as plain data and tensors."""
        return {
            "kind": self.kind,
            "columns": list(self.info.columns),
            "classes": None if self.info.classes is None else list(self.info.classes),
            "center": self.center.clone(),
            "scale": self.scale.clone(),
            "limits": None if self.limits is None else self.limits.clone(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> TargetCoding:
        """Return the coding that `state` describes."""
        classes = None if state["classes"] is None else tuple(state["classes"])
        info = TargetInfo(tuple(state["columns"]), classes)
        return cls(state["kind"], info, state["center"], state["scale"], state.get("limits"))


def _units_of_each(units: Sequence[Unit], columns: int) -> list[Unit]:
    return list(units) * (columns // len(units))


def _table(names: Sequence[str], values: Tensor) -> pl.DataFrame:
    return pl.DataFrame([pl.Series(name, values[:, j].numpy()) for j, name in enumerate(names)])


def numbers_of(frame: pl.DataFrame, columns: Sequence[str]) -> Tensor:
    """Return columns of numbers as a tensor (n, k), float64."""
    return torch.tensor(frame.select(pl.col(columns).cast(pl.Float64)).to_numpy(), dtype=torch.float64)


def _label_texts(series: pl.Series) -> pl.Series:
    """Labels as text; whole numbers are equal whether a file stored them as 1, 1.0 or "1"."""
    if series.dtype.is_numeric():
        numbers = series.cast(pl.Float64)
        whole = bool((numbers == numbers.floor()).all())
        return (numbers.cast(pl.Int64) if whole else numbers).cast(pl.String)
    return series.cast(pl.String)


def _text(label: object) -> str:
    # polars writes booleans in lower case
    return str(label).lower() if isinstance(label, bool) else str(label)


def refuse_labels(series: pl.Series, name: str, where: str) -> None:
    """Refuse labels where a loss needs numbers.

    Raises:
        DataError: naming some of the labels, and losses that take them.
    """
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
