"""Evaluation metrics, chosen by what kind of loss is trained, accumulated in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchmetrics import MaxMetric, MeanAbsoluteError, MeanMetric, MeanSquaredError, Metric, MinMetric, R2Score
from torchmetrics.classification import (
    BinaryAccuracy,
    BinaryAUROC,
    BinaryAveragePrecision,
    MulticlassAccuracy,
    MulticlassF1Score,
)

NAMES: dict[str, tuple[str, ...]] = {
    "regression": ("rmse", "mae", "r2"),
    "count": ("rmse", "mae", "r2"),
    "binary": ("accuracy", "auroc", "average_precision", "brier"),
    "margin": ("accuracy", "auroc", "average_precision"),
    "multiclass": ("accuracy", "macro_f1", "log_loss"),
}
"""The metrics of each kind of loss; `loss`, the mean of the loss itself, comes with all of them."""

_NEEDS_SPREAD = frozenset({"r2", "auroc", "average_precision"})
"""Undefined where the part evaluated has one target value only."""

_IGNORED = -1
"""A class index that torchmetrics leaves out: its classification metrics take no empty batch."""

_NEEDS_LABELS = frozenset({"accuracy", "auroc", "average_precision", "macro_f1"})
"""Undefined where the targets are probabilities rather than classes."""


def epoch_metrics(kind: str, validated: bool) -> list[str]:
    """What the end of each epoch logs, and callbacks such as EarlyStopping can watch.

    Args:
        kind: the loss's.
        validated: whether there is a validation part.
    """
    return ["train/epoch_loss", *(f"val/{name}" for name in ("loss", *NAMES[kind]) if validated)]


class Evaluation(nn.Module):
    r"""The metrics of one part of the data, exact over any number of batches and ranks.

    Every row counts once and unweighted, but for `loss`, which is (1/n) Σ wᵢ ℓᵢ. RMSE and MAE are taken over all
    entries of the (n, k) targets, in the target's units; R² is 1 − Σ(y − ŷ)²/Σ(y − ȳ)² of each
    column, averaged. Log loss is −(1/n) Σ log p of the true class; Brier is (1/n) Σ (p − y)².

    Args:
        kind: the loss's kind.
        columns: k, the number of target columns; the number of classes for `multiclass`.
        labelled: whether targets are classes, not probabilities.
        location: (k,) a typical target value, taken off before R² so that nothing cancels.
        spread: (k,) a typical deviation of the targets, by which R² divides for the same reason.

    Shape:
        predictions (n, k) in float64: values, probabilities, or scores (`margin`); targets as the
        loss sees them, in original units.
    """

    def __init__(
        self,
        kind: str,
        columns: int,
        labelled: bool = True,
        location: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.kind = kind
        self._location = torch.zeros(columns, dtype=torch.float64) if location is None else location
        self._spread = torch.ones(columns, dtype=torch.float64) if spread is None else spread
        names = [name for name in NAMES[kind] if labelled or name not in _NEEDS_LABELS]
        self._metrics: dict[str, Metric] = {name: _metric(name, kind, columns) for name in ("loss", *names)}
        if _NEEDS_SPREAD & self._metrics.keys():
            self._lowest, self._highest = MinMetric(nan_strategy="disable"), MaxMetric(nan_strategy="disable")
        for metric in self._all():
            metric.set_dtype(torch.float64)

    @property
    def names(self) -> list[str]:
        """What `compute` returns."""
        return list(self._metrics)

    def _all(self) -> list[Metric]:
        extra = [self._lowest, self._highest] if _NEEDS_SPREAD & self._metrics.keys() else []
        return [*self._metrics.values(), *extra]

    def to_device(self, device: torch.device) -> None:
        """Move the accumulators to where the batches are."""
        self._location, self._spread = self._location.to(device), self._spread.to(device)
        for metric in self._all():
            metric.to(device)

    def update(self, losses: Tensor, predictions: Tensor, target: Tensor) -> None:
        """Add a batch, possibly empty: weighted losses (n,), predictions and targets."""
        views = self._views(predictions, target)
        self._metrics["loss"].update(losses.double())
        for name, metric in self._metrics.items():
            if name == "loss":
                continue
            value, truth = views[name]
            if truth is None:
                metric.update(value)
            elif len(truth) == 0 and name in _NEEDS_LABELS:
                metric.update(value.new_full((1, *value.shape[1:]), 0.5), truth.new_full((1,), _IGNORED))
            else:
                metric.update(value, truth)
        if _NEEDS_SPREAD & self._metrics.keys():
            # around a typical value, since torchmetrics compares them in single precision
            centred = target.double() - self._location
            extremes = torch.aminmax(centred) if target.numel() else (math.inf, -math.inf)
            self._lowest.update(extremes[0])
            self._highest.update(extremes[1])

    def _views(self, predictions: Tensor, target: Tensor) -> dict[str, tuple[Tensor, Tensor | None]]:
        """What each metric is given, by name."""
        if self.kind in ("regression", "count"):
            shifted = ((predictions - self._location) / self._spread, (target - self._location) / self._spread)
            pair = (predictions.contiguous(), target.double().contiguous())
            # a squeezed column: R2Score with one output wants vectors
            r2 = (shifted[0].squeeze(1), shifted[1].double().squeeze(1)) if target.shape[1] == 1 else shifted
            return {"rmse": pair, "mae": pair, "r2": r2}
        if self.kind == "multiclass":
            true = predictions.gather(1, target[:, None]).squeeze(1) if target.ndim == 1 else None
            logs = predictions.clamp_min(torch.finfo(torch.float64).tiny).log()
            likelihood = logs.gather(1, target[:, None]).squeeze(1) if true is not None else (target * logs).sum(1)
            pair = (predictions, target)
            return {"accuracy": pair, "macro_f1": pair, "log_loss": (-likelihood, None)}
        truth = target.squeeze(1)
        if self.kind == "margin":
            # Monotone into (0, 1): torchmetrics would squash only those batches that leave [0, 1].
            score = predictions.squeeze(1)
            squashed = (0.5 + 0.5 * score / (1 + score.abs()), truth.long())
            return {"accuracy": squashed, "auroc": squashed, "average_precision": squashed}
        probability = predictions.squeeze(1)
        pair = (probability, truth.long())
        brier = ((probability - truth.double()).square(), None)
        return {"accuracy": pair, "auroc": pair, "average_precision": pair, "brier": brier}

    def compute(self) -> dict[str, float]:
        """All metrics over all ranks; NaN where one is undefined. Every rank must call it."""
        constant = False
        if _NEEDS_SPREAD & self._metrics.keys():
            constant = bool(self._lowest.compute() >= self._highest.compute())
        values = {}
        for name, metric in self._metrics.items():
            undefined = constant and name in _NEEDS_SPREAD
            values[name] = math.nan if undefined else float(metric.compute())
        return values

    def reset(self) -> None:
        """Forget what was added."""
        for metric in self._all():
            metric.reset()


def _metric(name: str, kind: str, columns: int) -> Metric:
    if name == "accuracy" and kind == "multiclass":
        return MulticlassAccuracy(columns, average="micro", ignore_index=_IGNORED, validate_args=False)
    makers: dict[str, Callable[[], Metric]] = {
        "rmse": lambda: MeanSquaredError(squared=False),
        "mae": MeanAbsoluteError,
        "r2": R2Score,
        "accuracy": lambda: BinaryAccuracy(ignore_index=_IGNORED, validate_args=False),
        "auroc": lambda: BinaryAUROC(ignore_index=_IGNORED, validate_args=False),
        "average_precision": lambda: BinaryAveragePrecision(ignore_index=_IGNORED, validate_args=False),
        "macro_f1": lambda: MulticlassF1Score(columns, average="macro", ignore_index=_IGNORED, validate_args=False),
    }
    return makers[name]() if name in makers else MeanMetric(nan_strategy="disable")


def location_and_spread(target: Tensor, kind: str) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation of each column of numeric targets (n, k), for a well-conditioned R²."""
    if kind not in ("regression", "count"):
        return None
    spread = target.std(dim=0, correction=0)
    return target.mean(dim=0), torch.where(spread > 0, spread, torch.ones_like(spread))
