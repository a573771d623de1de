r"""The metrics of every evaluation, as functions and classes that make torchmetrics' accumulators.

Symbols: n rows, ŷ predictions, y targets, p predicted probabilities, c classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import MeanAbsoluteError, MeanMetric, MeanSquaredError, Metric, R2Score
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision, MulticlassAccuracy, MulticlassF1Score


def rmse() -> Metric:
    r"""Root of the mean squared error over all entries of the target.

        √( Σ (y − ŷ)² / (n·k) )

    Shape:
        predictions and targets (n, k), in the target's units.
    """
    return MeanSquaredError(squared=False)


def mae() -> Metric:
    r"""Mean absolute error over all entries of the target.

        Σ |y − ŷ| / (n·k)

    Shape:
        predictions and targets (n, k), in the target's units.
    """
    return MeanAbsoluteError()


def r2() -> Metric:
    r"""Share of the target's variance that is predicted, of each column, averaged.

        1 − Σ(y − ŷ)² / Σ(y − ȳ)²

    Shape:
        predictions and targets (n, k).

    Note: computed around the training target's mean, so that nothing cancels.
    """
    return R2Score()


def accuracy(num_classes: int, ignore_index: int) -> Metric:
    r"""Share of rows whose class is predicted.

        |{i : ĉᵢ = cᵢ}| / n

    Shape:
        predicted and true class indices (n,).
    """
    return MulticlassAccuracy(num_classes, average="micro", ignore_index=ignore_index, validate_args=False)


def macro_f1(num_classes: int, ignore_index: int) -> Metric:
    r"""F1 of each class, averaged over the classes that occur in targets or predictions.

        mean over c of  2·TP / (2·TP + FP + FN)

    Shape:
        predicted and true class indices (n,).
    """
    return MulticlassF1Score(num_classes, average="macro", ignore_index=ignore_index, validate_args=False)


def auroc(ignore_index: int) -> Metric:
    r"""Area under the receiver operating characteristic of the second class.

        P(score of a row of the second class > score of one of the first)

    Shape:
        scores in [0, 1] and true class indices, (n,).

    Note: exact, so it keeps every score until the end of an evaluation.
    """
    return BinaryAUROC(ignore_index=ignore_index, validate_args=False)


def average_precision(ignore_index: int) -> Metric:
    r"""Precision of the second class, averaged over the recall.

        Σ (Rᵢ − Rᵢ₋₁) Pᵢ    over falling thresholds

    Shape:
        scores in [0, 1] and true class indices, (n,).

    Note: exact, so it keeps every score until the end of an evaluation.
    """
    return BinaryAveragePrecision(ignore_index=ignore_index, validate_args=False)


class CalibrationError(Metric):
    r"""Expected calibration error: the distance of predicted probabilities from frequencies, over bins of equal width.

        Σ_b (n_b / n) |mean of c in b − mean of h in b|

    Two classes with one probability: c is that of the second class, h whether it is the true one. Otherwise c is the
    probability of the most probable class, h whether that is the true one.

    Args:
        bins: number of bins of [0, 1], at least 1; each includes its lower end, the last one both.

    Shape:
        probabilities (n,) of the second class or (n, c) of all, and true class indices (n,).

    Raises:
        ValueError: if bins is below 1.

    Reference: Naeini, Cooper and Hauskrecht (2015), AAAI; Guo et al. (2017), arXiv 1706.04599.
    Note: as torchmetrics' CalibrationError with norm l1, which keeps every row and counts the probability 1 as a bin of
    its own. It depends on the bins, and is biased upwards on few rows.
    """

    full_state_update = False
    count: Tensor
    confidence: Tensor
    hits: Tensor

    def __init__(self, bins: int = 15) -> None:
        super().__init__()
        if bins < 1:
            raise ValueError(f"bins must be at least 1, got {bins}")
        self.bins = bins
        for name in ("count", "confidence", "hits"):
            self.add_state(name, torch.zeros(bins, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, target: Tensor) -> None:
        """Add rows."""
        if predicted.ndim == 1:
            confidence, hits = predicted.double(), target.double()
        else:
            confidence, label = predicted.double().max(dim=1)
            hits = (label == target).double()
        inside = one_hot((confidence * self.bins).long().clamp(0, self.bins - 1), self.bins).double()
        self.count += inside.sum(dim=0)
        self.confidence += confidence @ inside
        self.hits += hits @ inside

    def compute(self) -> Tensor:
        """The error; NaN without rows."""
        return (self.confidence - self.hits).abs().sum() / self.count.sum()


class _RowMean(MeanMetric):
    """Mean of a value per row."""

    def __init__(self) -> None:
        super().__init__(nan_strategy="disable")


class Brier(_RowMean):
    r"""Squared error of the second class's probability.

        (1/n) Σ (p − y)²

    Shape:
        predicted and true probabilities, (n,).

    Reference: Brier (1950), doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """

    def update(self, predicted: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add rows."""
        super().update((predicted - target).square())


class LogLoss(_RowMean):
    r"""Cross entropy between true and predicted class probabilities.

        −(1/n) Σᵢ Σ_c y_ic log p_ic

    Shape:
        predicted and true probabilities, (n, c).
    """

    def update(self, predicted: Tensor, target: Tensor) -> None:  # type: ignore[override]
        """Add rows."""
        logs = predicted.clamp_min(torch.finfo(torch.float64).tiny).log()
        super().update(-(target * logs).sum(1))
