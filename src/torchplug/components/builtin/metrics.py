r"""The metrics of every evaluation, as functions and classes that make torchmetrics' accumulators.

Symbols: n rows, ŷ predictions, y targets, p predicted probabilities, c classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
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
