"""Preprocessing: fitted once, on the training split, and carried by the checkpoint, so that one alone predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from torchplug.components.task import TASKS
from torchplug.errors import CheckpointError, DataError
from torchplug.preprocessing.blocks import block_rows, intervals, worded_for_all_rows
from torchplug.preprocessing.column_fit import FittedColumn
from torchplug.preprocessing.columns import (
    Array,
    CategoricalColumn,
    Column,
    MarkedColumn,
    column_from_state,
    column_state,
)
from torchplug.preprocessing.features import read_block
from torchplug.preprocessing.refusals import refuse_missing
from torchplug.preprocessing.rows import Rows
from torchplug.preprocessing.rules import Scale
from torchplug.preprocessing.scaling import Scaling
from torchplug.preprocessing.substitutions import Substitutions
from torchplug.preprocessing.target import TargetCoding
from torchplug.registry.component import TargetInfo, Unit
from torchplug.tables import Types, enumerate_names, require_columns

_FILL_IN = "the model was trained with --data.impute error: fill them in, or train with another choice"


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """Maps features and target to numbers, as fitted on the training split.

    Attributes:
        encoders: the columns with their levels and fill values.
        scaling: of the features that they make.
        target_coding: the target's classes, or its center and scale.

    Note: without a bias (`DataRequirements.center` false) features and target are divided by the same scale, unshifted.
    """

    encoders: tuple[Column, ...]
    scaling: Scaling
    target_coding: TargetCoding

    @classmethod
    def of(
        cls, fitted: Sequence[FittedColumn], target: TargetCoding, *, center: bool = True, scale: Scale = "standard"
    ) -> Preprocessing:
        """Return the preprocessing by columns and a target that were fitted on the training split.

        Args:
            fitted: the feature columns, in order.
            target: fitted on the same rows.
            center: whether features are shifted.
            scale: how features are scaled, for which the columns were fitted.

        Raises:
            DataError: if no feature is left.
        """
        if not any(column.column.features for column in fitted):
            raise DataError("no feature is left: every column is a category with a single level")
        moments, percentiles = [column.moments for column in fitted], [column.percentiles for column in fitted]
        scaling = Scaling.of(scale, moments, percentiles, center=center)
        return cls(tuple(column.column for column in fitted), scaling, target)

    @property
    def columns(self) -> list[str]:
        """The raw feature columns, in order."""
        return [encoder.name for encoder in self.encoders]

    @property
    def types(self) -> Types:
        """The types by which a new table's columns are read: those of the features and of the target."""
        return {**{encoder.name: encoder.dtype for encoder in self.encoders}, **self.target_coding.types}

    @property
    def feature_names(self) -> list[str]:
        """The d features that the network sees: columns, and `column=level` for categories."""
        return [name for encoder in self.encoders for name in encoder.feature_names]

    @property
    def category_ranges(self) -> list[tuple[int, int]]:
        """The features of each column of categories: the first, and the one after the last."""
        found, first = [], 0
        for encoder in self.encoders:
            column = encoder.column if isinstance(encoder, MarkedColumn) else encoder
            if isinstance(column, CategoricalColumn):
                found.append((first, first + column.features))
            first += encoder.features
        return found

    @property
    def info(self) -> TargetInfo:
        """The target's columns and classes."""
        return self.target_coding.info

    @property
    def target_center(self) -> Tensor:
        """(k,) float64, what is subtracted from regression targets; zeros where nothing is."""
        return self.target_coding.center

    @property
    def target_scale(self) -> Tensor:
        """(k,) float64, what regression targets are divided by; ones where nothing is."""
        return self.target_coding.scale

    def features(self, frame: pl.DataFrame, where: str = "the data", rows: Rows | None = None) -> Tensor:
        """Return the features of these rows.

        Columns are matched by name, and others are ignored; an array's columns (x0, x1, …) are matched by position if
        the names differ from those of training.

        Args:
            frame: n rows.
            where: the table's name, for messages.
            rows: their positions in the user's table, from 0; None: all of it.

        Returns:
            (n, d) float64.

        Raises:
            DataError: if columns are missing, or hold the wrong type, infinite values, or, where these are refused,
                missing values or unknown categories.
        """
        features = np.empty((frame.height, self.scaling.features))
        places = np.arange(frame.height) if rows is None else rows
        with worded_for_all_rows(lambda: self.check(frame, where, rows)):
            for start, stop in intervals(frame.height, block_rows(features.shape[1])):
                self.encode(frame[start:stop], features[start:stop], where, places[start:stop])
        return torch.from_numpy(features)

    def encode(
        self, frame: pl.DataFrame, out: Array, where: str, rows: Rows, substitutions: Sequence[Substitutions] = ()
    ) -> None:
        """Write the features of these rows into an array (n, d), float64; otherwise as `features`.

        Args:
            frame: n rows.
            out: the array.
            where: the table's name, for messages.
            rows: their positions in the user's table, from 0.
            substitutions: count imputed values and unknown categories, each of some of the rows.

        Raises:
            DataError: counting what is wrong in these rows alone.
        """
        first = 0
        for encoder, values in zip(self.encoders, self._read(frame, where, rows, substitutions), strict=True):
            encoder.write(values, out[:, first : first + encoder.features], where, rows)
            first += encoder.features
        self.scaling.apply(out)

    def refuse(self, frame: pl.DataFrame, where: str, rows: Rows, substitutions: Sequence[Substitutions] = ()) -> None:
        """Refuse and count what `encode` does in these rows, at a cost that does not grow with the number of features.

        Raises:
            DataError: counting what is wrong in these rows alone.
        """
        for encoder, values in zip(self.encoders, self._read(frame, where, rows, substitutions), strict=True):
            encoder.check(values, where, rows)

    def check(self, frame: pl.DataFrame, where: str = "the data", rows: Rows | None = None) -> None:
        """Refuse rows whose columns `features` would refuse, unknown categories aside, a column at a time.

        Raises:
            DataError: counting what is wrong in all rows.
        """
        columns = zip(self.encoders, self._select(frame, where), strict=True)
        read = (encoder.read(series, where, rows) for encoder, series in columns)
        unfilled = (series for encoder, series in zip(self.encoders, read, strict=True) if encoder.fill is None)
        refuse_missing(unfilled, where, _FILL_IN, rows)

    def _read(
        self, frame: pl.DataFrame, where: str, rows: Rows, substitutions: Sequence[Substitutions]
    ) -> Iterator[pl.Series]:
        """The columns to encode, read lazily."""
        block = self._select(frame, where).get_columns()
        for encoder, values in zip(self.encoders, read_block(self.encoders, block, where, rows), strict=True):
            if encoder.fill is None:
                refuse_missing([values], where, _FILL_IN, rows)
            if substitutions and (values.null_count() or encoder.unknown(values)):
                for counts in substitutions:
                    seen = counts.seen(values)
                    counts.count(encoder.name, seen.null_count(), encoder.unknown(seen))
            yield values

    def reads(self, available: Sequence[str]) -> Sequence[str]:
        """The table's columns that `features` reads: those named as in training, or all, matched by position."""
        return self.columns if set(self.columns) <= set(available) else available

    def _select(self, frame: pl.DataFrame, where: str) -> pl.DataFrame:
        available = frame.columns
        if available == self.columns:
            return frame
        named = set(self.columns) <= set(available)
        positional = not named and available == [f"x{j}" for j in range(frame.width)]
        if positional:
            if frame.width != len(self.columns):
                raise DataError(
                    f"{where} has {frame.width} columns, and the model wants {len(self.columns)}: "
                    f"{enumerate_names(self.columns)}"
                )
            return frame.rename(dict(zip(available, self.columns, strict=True)))
        require_columns(frame, self.columns, where)
        return frame.select(self.columns)

    def target(self, frame: pl.DataFrame, where: str = "the data", rows: Rows | None = None) -> Tensor:
        """Return the target of these rows in the form that the loss needs.

        Shape:
            (n, k) float64, standardized for regression; (n, 1) in [0, 1] for two-class losses; (n,) int64 indices for
            multiclass labels.

        Raises:
            DataError: if a column or a value is missing, or a label is unknown.
        """
        require_columns(frame, self.info.columns, where)
        return self.target_coding.encode(frame, where, rows)

    def original_units(self, predictions: Tensor, units: Sequence[Unit] = ("location",)) -> Tensor:
        """Undo the standardization of the target; class scores and probabilities are returned unchanged.

        Args:
            predictions: of the standardized target.
            units: of each of a target's columns, or of all, see `Loss`.

        Shape:
            (n, m) → (n, m), m a multiple of k, the columns of one target side by side.
        """
        return self.target_coding.original_units(predictions, units)

    def clipped(self, predictions: Tensor, units: Sequence[Unit] = ("location",)) -> Tensor:
        """Clip predicted locations to the target's range in the training split, if that was asked for.

        Args:
            predictions: in the target's own units.
            units: as for `original_units`.

        Shape:
            (n, m) → (n, m), m a multiple of k, the columns of one target side by side.
        """
        return self.target_coding.clipped(predictions, units)

    def decode(self, predictions: Tensor, names: Sequence[str]) -> pl.DataFrame:
        """Predictions as a table with the target's labels.

        Args:
            predictions: (n, m), the link applied, numbers in original units.
            names: a column name for each of the m numbers; only regression and count use them.

        Returns:
            n rows. Regression and count: a column per name. Classes: the label, in a column named like the target
            (`label` where several target columns are the classes), then `probability_<label>` for each class, or
            `score` for a margin loss. A target of probabilities: the predicted probability.
        """
        return self.target_coding.decode(predictions, names)

    def state(self) -> dict[str, Any]:
        """Return the state as plain data and tensors, readable by `torch.load(weights_only=True)`."""
        return {
            "columns": [column_state(encoder) for encoder in self.encoders],
            "scaling": self.scaling.state(),
            "target": self.target_coding.state(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Preprocessing:
        """Return the preprocessing that `state` describes, bit for bit.

        Raises:
            CheckpointError: if this is not such a state.
        """
        try:
            restored = cls(
                tuple(column_from_state(column) for column in state["columns"]),
                Scaling.from_state(state["scaling"]),
                TargetCoding.from_state(state["target"]),
            )
            restored._refuse_misfits()
            return restored
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            raise CheckpointError(
                f"the checkpoint's preprocessing cannot be read ({error!r}): it is damaged, or from another version"
            ) from error

    def _refuse_misfits(self) -> None:
        """Raise a ValueError if entries have a wrong type or inconsistent sizes."""
        info = self.target_coding.info
        classes = info.classes or ()
        labels = [
            *(level for column in self._categories for level in (*column.levels, *column.pooled)),
            *(encoder.fill for encoder in self.encoders if encoder.fill is not None),
        ]
        k = len(info.columns)
        limits = () if self.target_coding.limits is None else self.target_coding.limits
        units = (self.target_coding.center, self.target_coding.scale, *limits)
        well_formed = (
            k > 0
            and self.target_coding.kind in TASKS
            and all(isinstance(name, str) for name in (*self.columns, *info.columns))
            and all(isinstance(label, str | int | float) for label in labels)
            and all(isinstance(label, str | int) for label in classes)
            and len(set(map(type, classes))) <= 1
            and len(limits) in (0, 2)
            and all(vector.shape == (k,) and bool(vector.isfinite().all()) for vector in units)
            and self.scaling.fits(len(self.feature_names))
        )
        if not well_formed:
            raise ValueError("its parts do not go together")

    @property
    def _categories(self) -> Iterator[CategoricalColumn]:
        plain = (encoder.column if isinstance(encoder, MarkedColumn) else encoder for encoder in self.encoders)
        return (column for column in plain if isinstance(column, CategoricalColumn))

    def __eq__(self, other: object) -> bool:
        """Whether both encode identically, bit for bit."""
        if not isinstance(other, Preprocessing):
            return NotImplemented
        return _same(self.state(), other.state())

    __hash__ = None  # type: ignore[assignment]


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, Tensor):
        return isinstance(right, Tensor) and torch.equal(left, right)
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
