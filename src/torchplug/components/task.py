"""One record for each kind of loss, with all that follows from it; no other module compares kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from torchplug.registry.component import Kind, TargetInfo, View

Problem = Literal["regression", "binary", "multiclass"]
"""Numbers, two classes, or any number of classes."""


@dataclass(frozen=True)
class Task:
    """What follows from a loss's kind; a loss may override the link, the outputs and the check.

    Args:
        kind: the loss's.
        problem: what recipes call it: numbers, two classes or more.
        metrics: the names of the metrics that every evaluation has.
        link: scores (n, k) → predictions (n, k).
        scores: predictions (n, k) → scores of which the link makes them.
        domain: the least and the greatest target value that such losses are defined for.
        outside: what to say of a target that leaves the domain.
        standardizes: whether the target may be standardized for training, and predictions are scaled back.
        takes_probabilities: whether one target column may hold probabilities in place of classes.
        predicts_rates: whether predictions are rates, which come close to zero only at infinite scores.
        label: predictions (n, k) → the predicted class's index (n,); None for numbers.
        ranking: predictions (n, k) → numbers in [0, 1] that rise with the class's score: (n,) of the second of two
            classes, (n, k) of more; None for numbers.
        probabilities: predictions (n, k) → the probability of each class (n, c); None where there is none.
    """

    kind: Kind
    problem: Problem
    metrics: tuple[str, ...]
    link: Callable[[Tensor], Tensor]
    scores: Callable[[Tensor], Tensor]
    domain: tuple[float, float] = (-math.inf, math.inf)
    outside: str = ""
    standardizes: bool = False
    takes_probabilities: bool = False
    predicts_rates: bool = False
    label: Callable[[Tensor], Tensor] | None = None
    ranking: Callable[[Tensor], Tensor] | None = None
    probabilities: Callable[[Tensor], Tensor] | None = None

    @property
    def has_classes(self) -> bool:
        """Whether targets are classes, and not numbers."""
        return self.problem != "regression"

    @property
    def has_indices(self) -> bool:
        """Whether class labels reach the loss as indices (n,), with a score for each class.

        A number added to all scores of a row then changes no prediction. Targets (n, k) are class probabilities.
        """
        return self.problem == "multiclass"

    def outputs(self, info: TargetInfo) -> int:
        """How many scores the network must give for this target.

        Raises:
            ValueError: if the target does not fit the kind.
        """
        if not self.has_classes:
            return len(info.columns)
        if self.has_indices:
            if info.classes is None:
                raise ValueError("needs classes, the target has real values")
            return len(info.classes)
        if info.classes is not None and len(info.classes) != 2:
            raise ValueError(f"separates two classes, the target has {len(info.classes)}")
        return 1

    def check(self, target: Tensor) -> None:
        """Refuse target values outside the domain of losses of this kind.

        Raises:
            ValueError: saying which values are outside, or which are allowed.
        """
        lowest, highest = self.domain
        if self.outside and bool(((target < lowest) | (target > highest)).any()):
            raise ValueError(self.outside)

    def example_target(self) -> Tensor:
        """The target of one row: zero, or the first class."""
        return torch.zeros(1, dtype=torch.long) if self.has_indices else torch.zeros(1, 1)

    @property
    def views(self) -> tuple[View, ...]:
        """What metrics may be computed from."""
        if not self.has_classes:
            return ("values", "standardized")
        return ("labels", "scores") if self.probabilities is None else get_args(View)[2:]

    def view(self, name: View, predictions: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions and target as `Metric.view` describes them.

        Args:
            name: one of `views`.
            predictions: (n, k), float64.
            target: as the loss sees it; numbers in the units of the predictions.
        """
        if self.label is None or self.ranking is None:
            pair = predictions.contiguous(), target.double().contiguous()
            return (pair[0].squeeze(1), pair[1].squeeze(1)) if target.shape[1] == 1 else pair
        predicted = self.label(predictions) if name == "labels" else self.ranking(predictions)
        if name != "distributions":
            return predicted, target if target.ndim == 1 else target.squeeze(1).long()
        if target.ndim == 1:
            target = one_hot(target, predicted.shape[1])
        return predicted, target.double().view_as(predicted)


def _identity(values: Tensor) -> Tensor:
    return values


def _softmax(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=1)


def _more_likely(probability: Tensor) -> Tensor:
    return (probability.squeeze(1) > 0.5).long()


def _positive(score: Tensor) -> Tensor:
    return (score.squeeze(1) > 0).long()


def _most_likely(probabilities: Tensor) -> Tensor:
    return probabilities.argmax(dim=1)


def _second(probability: Tensor) -> Tensor:
    return probability.squeeze(1)


def _squashed(score: Tensor) -> Tensor:
    """Scores in (0, 1): torchmetrics applies a sigmoid to the batches that leave [0, 1], and to these alone."""
    value = score.squeeze(1)
    return 0.5 + 0.5 * value / (1 + value.abs())


def _both(probability: Tensor) -> Tensor:
    return torch.cat([1 - probability, probability], dim=1)


_NUMBERS = ("rmse", "mae", "r2")
_RANKED = ("accuracy", "auroc", "average_precision")
_SHARE = ((0.0, 1.0), "needs targets in [0, 1]")
_COUNT = ((0.0, math.inf), "needs counts, the target has negative values")

_RECORDS = (
    Task("regression", "regression", _NUMBERS, _identity, _identity, standardizes=True),
    Task("count", "regression", _NUMBERS, torch.exp, torch.log, *_COUNT, predicts_rates=True),
    Task("margin", "binary", _RANKED, _identity, _identity, *_SHARE, label=_positive, ranking=_squashed),
    Task(
        "binary",
        "binary",
        (*_RANKED, "brier"),
        torch.sigmoid,
        torch.logit,
        *_SHARE,
        takes_probabilities=True,
        label=_more_likely,
        ranking=_second,
        probabilities=_both,
    ),
    Task(
        "multiclass",
        "multiclass",
        ("accuracy", "macro_f1", "log_loss"),
        _softmax,
        torch.log,
        label=_most_likely,
        ranking=_identity,
        probabilities=_identity,
    ),
)
TASKS: Mapping[str, Task] = {task.kind: task for task in _RECORDS}
"""The record of each kind."""
