"""Losses and metrics of a network on a split, in double precision."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchplug.batch import Batch, Rows, SplitName
from torchplug.checked_network import evaluating
from torchplug.components.contracts import Loss
from torchplug.data.tabular import TabularData
from torchplug.evaluation.split_evaluations import SplitEvaluations
from torchplug.module import ComponentModule

_BLOCK = 8192


@dataclass(frozen=True)
class Measures:
    """A network on a split.

    Args:
        losses: wᵢ ℓᵢ of each row, (n,) float64.
        metrics: by plain name, such as `rmse`; NaN where one is undefined.
        error: the share of wrong labels; for numbers the root mean squared error, in the target's units.
    """

    losses: Tensor
    metrics: Mapping[str, float]
    error: float

    @property
    def loss(self) -> float:
        """(1/n) Σ wᵢ ℓᵢ."""
        return float(self.losses.mean())

    @property
    def variance(self) -> float:
        """Of the mean loss, as the rows vary; infinite for a single row."""
        n = len(self.losses)
        return float(self.losses.var()) / n if n > 1 else math.inf

    def rises_from(self, other: Measures) -> Difference:
        """By how much the mean loss is above that on other rows."""
        return Difference(self.loss - other.loss, math.sqrt(self.variance + other.variance))

    def exceeds(self, other: Measures) -> Difference:
        """By how much the mean loss is above that of another network on the same rows."""
        return difference(self.losses - other.losses)


@dataclass(frozen=True)
class Difference:
    """A difference of means.

    Args:
        value: the difference.
        error: its standard error.
    """

    value: float
    error: float

    def is_above(self, bound: float) -> bool:
        """Whether it is above a bound, and above zero by more than two standard errors."""
        return self.value > bound and self.value > 2 * self.error

    def __str__(self) -> str:
        return f"{self.value:.3g} ± {self.error:.1g}"


def difference(differences: Tensor) -> Difference:
    """The mean of differences (n,), with its standard error; infinite for a single row."""
    n = len(differences)
    return Difference(float(differences.mean()), float(differences.std()) / math.sqrt(n) if n > 1 else math.inf)


def measure(network: nn.Module, module: ComponentModule, data: TabularData, split: SplitName) -> Measures | None:
    """Losses and metrics of a network on a split; None for a split without rows.

    Args:
        network: gives scores from the data's features; it is left as it is.
        module: whose loss and metrics are computed.
        data: prepared.
        split: `train` or `validation`.
    """
    network, loss = copy.deepcopy(network).cpu().double(), copy.deepcopy(module.loss).cpu().double()
    evaluations = SplitEvaluations(loss, module.resolved.metric_choice)
    evaluations.compare_with(data.target_scale)
    losses = []
    with evaluating(network):
        for rows in blocks(data, split):
            scores = network(rows.features)
            losses.append(loss(scores, rows.target) * rows.weight)
            batch = Batch(rows.features, rows.target, rows.weight, len(rows.weight))
            evaluations.update(split, scores, batch, module.preprocessing)
    if not losses:
        return None
    values = {name.partition("/")[2]: float(value) for name, value in evaluations.finish(split).items()}
    return Measures(torch.cat(losses), values, error_of(values, loss))


def error_of(metrics: Mapping[str, float], loss: Loss) -> float:
    """The share of wrong labels, or the root mean squared error; the loss where neither is defined."""
    if loss.task.has_classes:
        return 1 - metrics["accuracy"] if "accuracy" in metrics else metrics["loss"]
    return metrics.get("rmse", metrics["loss"])


def error_name(metrics: Mapping[str, float], loss: Loss) -> str:
    """What `error_of` gives: `error rate`, `rmse` or `loss`."""
    if loss.task.has_classes:
        return "error rate" if "accuracy" in metrics else "loss"
    return "rmse" if "rmse" in metrics else "loss"


def blocks(data: TabularData, split: SplitName) -> Iterator[Rows]:
    """The rows of a split, some at a time."""
    rows = data.rows_of(split)
    for start in range(0, rows.samples, _BLOCK):
        yield rows.read(start, min(start + _BLOCK, rows.samples))
