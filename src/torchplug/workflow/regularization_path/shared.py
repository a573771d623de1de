r"""The folds of a table of numbers, whose rows are encoded once for all of them.

The features of a fold are those of all rows, standardized by its training rows:

    x' = (x − m) / s,    R' = R T,    T the matrix with [1 X Y] T = [1 X' Y]

m, s and the factor R of a fold come from those of parts of the rows: the largest in which all rows train and validate
in the same folds, such as the k parts of k folds. Nothing is subtracted, so that no digit is lost.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Self

import numpy as np
import polars
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.batch import Rows
from torchplug.components.metrics import location_and_spread
from torchplug.data.tabular import TabularData
from torchplug.objective.least_squares import Accumulation, LinearMap, Method, accumulation
from torchplug.preprocessing.columns import NumericColumn
from torchplug.preprocessing.moments import Moments
from torchplug.workflow.folds import Fold
from torchplug.workflow.regularization_path.problem import Problem

Indices = NDArray[np.int64]

_WHOLE = ("auto", "drop", "error")
"""How `impute` treats missing values where a plain column of numbers has none of them."""


@dataclass(frozen=True)
class Scaling:
    """The features of a fold by those of all rows: (x − shift) · factor, (d,) each."""

    shift: Tensor
    factor: Tensor

    def of(self, features: Tensor) -> Tensor:
        """Features (n, d) of the fold; the argument is overwritten."""
        return features.sub_(self.shift).mul_(self.factor)

    def of_factor(self, triangle: Tensor, intercept: bool) -> Tensor:
        """R' (b+d+k, b+d+k) of R; without an intercept nothing is shifted."""
        scaled, first = triangle.clone(), int(intercept)
        own = scaled[:, first : first + len(self.shift)]
        if intercept:
            own -= triangle[:, :1] * self.shift
        own *= self.factor
        return scaled


class ScaledRows:
    """Some of all rows, with a fold's features; a `TrainingSet`.

    Args:
        rows: all of them.
        chosen: which, ascending.
        scaling: of the fold.
        feature_names: for messages.

    Attributes:
        samples: how many.
    """

    def __init__(self, rows: Rows, chosen: Tensor, scaling: Scaling, feature_names: tuple[str, ...]) -> None:
        self.samples = len(chosen)
        self.feature_names = feature_names
        self._rows = rows
        self._chosen = chosen
        self._scaling = scaling

    @cached_property
    def weight(self) -> Tensor:
        """(n,), of mean 1."""
        own = self._rows.weight[self._chosen]
        return own / own.mean()

    @cached_property
    def target(self) -> Tensor:
        """(n, k) or (n,)."""
        return self._rows.target[self._chosen]

    @cached_property
    def _features(self) -> Tensor:
        return self._scaling.of(self._rows.features[self._chosen])

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`."""
        return Rows(*(part[start:stop] for part in (self._features, self.target, self.weight)))


@dataclass(frozen=True, eq=False)
class SharedRows:
    """All rows of the folds, and the parts that folds consist of.

    Args:
        whole: the model on all rows.
        rows: these.
        parts: which of them each part has.
        training: for each fold, which parts train.
        validation: for each fold, which parts validate.
        standardized: whether folds standardize.
        centred: whether they shift as well.
        summaries: what is known of the parts' R.
    """

    whole: Problem
    rows: Rows
    parts: list[Tensor]
    training: list[list[int]]
    validation: list[list[int]]
    standardized: bool
    centred: bool
    summaries: dict[Method, tuple[Accumulation, list[Tensor]]] = field(default_factory=dict)

    @classmethod
    def of(cls, whole: Problem, data: TabularData, folds: Sequence[Fold]) -> Self | None:
        """Return them; None where a fold's features are not those of all rows up to shift and scale.

        Args:
            whole: the model on all rows of the folds.
            data: those rows, prepared as its training split.
            folds: which of them train and validate, counted from 0 in the source.
        """
        if not _are_numbers(data):
            return None
        numbers = data.row_numbers("train")
        members = polars.DataFrame([np.isin(numbers, own) for fold in folds for own in fold])
        groups = members.with_row_index("row").group_by(members.columns, maintain_order=True).all()
        if groups.height > members.width:  # more parts than a part and its complement of each fold
            return None
        parts = [torch.tensor(own.to_numpy().astype(np.int64)) for own in groups["row"]]
        sides = [groups[name].arg_true().to_list() for name in members.columns]
        training, validation = sides[::2], sides[1::2]
        split = data.training_set
        request, settings = whole.module.data_request(), data.hparams
        rows = split.read(0, split.samples)
        found = cls(whole, rows, parts, training, validation, settings["scale"] == "standard", request.center)
        return found if found._share_preprocessing() else None

    def problem(self, fold: int) -> Problem:
        """The model on a fold."""
        training = self._rows_of(self.training[fold], fold)
        validation = self._rows_of(self.validation[fold], fold)
        return replace(
            self.whole,
            training=training,
            validation=validation.read(0, validation.samples),
            target_scale=self._target_scale(training.target),
            factor=partial(self.factor, fold=fold),
        )

    def factor(self, method: Method, fold: int) -> Tensor | None:
        """R of the training rows of a fold; None where it does not follow from those of the parts."""
        shape = self.whole.objective.linear_map
        if shape is None or not self.rows.target.is_floating_point() or (self.centred and not shape.intercept):
            return None
        sums, summaries = self._summaries(method, shape)
        chosen = self.training[fold]
        triangle = sums.factor(functools.reduce(sums.combine, [summaries[part] for part in chosen]))
        weight = self.rows.weight[torch.cat([self.parts[part] for part in chosen])].mean()
        return self._scalings[fold].of_factor(triangle, shape.intercept) / weight.sqrt()

    def _summaries(self, method: Method, shape: LinearMap) -> tuple[Accumulation, list[Tensor]]:
        """How R is found, and the summary of each part."""
        if method not in self.summaries:
            sums = accumulation(method, shape.features, shape.outputs, shape.intercept)
            parts = [Rows(*(values[own] for values in self.rows)) for own in self.parts]
            self.summaries[method] = sums, [sums.summarize([part]) for part in parts]
        return self.summaries[method]

    @cached_property
    def _moments(self) -> list[Moments]:
        """Of the features of all rows, for each part."""
        features = self.rows.features.numpy()
        return [Moments.of([*np.ascontiguousarray(features[own.numpy()].T)]) for own in self.parts]

    @cached_property
    def _of_folds(self) -> list[Moments]:
        """The same of the training rows of each fold."""
        return [functools.reduce(Moments.__add__, [self._moments[part] for part in own]) for own in self.training]

    @cached_property
    def _scalings(self) -> list[Scaling]:
        if not self.standardized:
            zeros = self.rows.features.new_zeros(self.rows.features.shape[1])
            return [Scaling(zeros, zeros + 1.0)] * len(self.training)
        found = []
        for moments in self._of_folds:
            mean, spread = map(torch.from_numpy, moments.mean_and_spread())
            found.append(Scaling(mean if self.centred else torch.zeros_like(mean), 1.0 / spread))
        return found

    def _rows_of(self, parts: Sequence[int], fold: int) -> ScaledRows:
        chosen = torch.cat([self.parts[part] for part in parts]).sort().values
        names = tuple(self.whole.module.preprocessing.feature_names)  # type: ignore[union-attr]
        return ScaledRows(self.rows, chosen, self._scalings[fold], names)

    def _target_scale(self, target: Tensor) -> tuple[Tensor, Tensor] | None:
        if not target.is_floating_point() or self.whole.target_scale is None:
            return None
        return location_and_spread(target)

    def _share_preprocessing(self) -> bool:
        """Whether no fold lacks a class, or has a constant column that varies in all rows."""
        classes = self.whole.module.preprocessing.info.classes  # type: ignore[union-attr]
        if classes is not None:
            own = self.rows.target.reshape(-1)
            present = [own[torch.cat([self.parts[part] for part in parts])] for parts in self.training]
            if any(len(torch.unique(some)) < len(classes) for some in present):
                return False
        constant = [own.low == own.high for own in (*self._of_folds, functools.reduce(Moments.__add__, self._moments))]
        return all(np.array_equal(own, constant[-1]) for own in constant)


def _are_numbers(data: TabularData) -> bool:
    """Whether all columns are numbers without gaps, scaled affinely, and targets and weights depend on no fold."""
    fitted, settings = data.preprocessing, data.hparams
    assert fitted is not None, "it is prepared"
    return (
        all(isinstance(column, NumericColumn) for column in fitted.encoders)
        and settings["impute"] in _WHOLE
        and settings["scale"] in ("standard", "none")
        and settings["class_weight"] is None
        and settings["standardize_target"] in (False, "auto")  # auto: not for linear models
    )
