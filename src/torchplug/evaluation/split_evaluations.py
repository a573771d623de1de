"""Metrics of a split, batch by batch, in the target's own units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars
import torch
from torch import Tensor, nn

from torchplug.batch import Batch
from torchplug.components.contracts import Loss
from torchplug.components.metrics import Evaluation, MetricChoice
from torchplug.objective import check_shapes, deterministic_eval
from torchplug.preprocessing import Preprocessing
from torchplug.preprocessing.blocks import intervals, rows_of, worded_for_all_rows
from torchplug.registry.component import Unit

_PREDICTION_ROWS = 2**16
_PREDICTION_NUMBERS = 2**24
"""How many rows, and how many numbers of them, are predicted from at once."""


class SplitEvaluations:
    """The evaluations under way, one per split.

    Args:
        loss: what is evaluated by.
        metrics: what is computed beside it.
        apart: whether metrics are those of this rank's rows alone, and not of all ranks'.
    """

    def __init__(self, loss: Loss, metrics: MetricChoice, apart: bool = False) -> None:
        self._loss = loss
        self._metrics = metrics
        self._apart = apart
        self._running: dict[str, Evaluation] = {}
        self._kept: dict[tuple[Any, ...], Evaluation] = {}  # by what they depend on: making metrics takes milliseconds
        self._warned: set[str] = set()
        self._scale: tuple[Tensor, Tensor] | None = None

    def compare_with(self, scale: tuple[Tensor, Tensor] | None) -> None:
        """Take location and spread of the training target, which scale-free metrics compare with."""
        self._scale = scale
        self._kept.clear()

    def update(self, split: str, scores: Tensor, batch: Batch, preprocessing: Preprocessing | None) -> None:
        """Add a batch's scores (n, k); `preprocessing` is None where the data came without."""
        predictions = self._loss.point(self._loss.link(scores.double()))
        if split not in self._running:
            check_shapes(self._loss, scores, batch.target)
            self._running[split] = self._begin(split, predictions, batch.target, preprocessing)
        losses = self._loss(scores, batch.target) * batch.weight
        true = original_units(batch.target, self._loss, preprocessing)
        self._running[split].update(losses, in_units(predictions, self._loss, preprocessing), true)

    def finish(self, split: str) -> dict[str, Tensor]:
        """The split's metrics by their full names, float64; nothing where it had no batch."""
        evaluation = self._running.pop(split, None)
        if evaluation is None:
            return {}
        try:
            values = evaluation.compute()
        finally:
            evaluation.reset()  # some keep every prediction
        return {f"{split}/{name}": torch.tensor(value, dtype=torch.float64) for name, value in values.items()}

    def newly_undefined(self, values: dict[str, Tensor]) -> list[str]:
        """The metrics without a value that were not complained about before."""
        undefined = [name for name, value in values.items() if math.isnan(value) and name not in self._warned]
        self._warned.update(undefined)
        return undefined

    def _begin(
        self, split: str, predictions: Tensor, target: Tensor, preprocessing: Preprocessing | None
    ) -> Evaluation:
        if preprocessing is None:
            labelled = target.ndim == 1 or not self._loss.task.has_indices
        else:
            labelled = preprocessing.target_coding.labels
        settings = (split, predictions.shape[1], labelled, predictions.device)
        if settings not in self._kept:
            self._kept[settings] = Evaluation(self._metrics, predictions.shape[1], labelled, *(self._scale or ()))
            self._kept[settings].to_device(predictions.device)
            if self._apart:
                self._kept[settings].leave_ranks_apart()
        return self._kept[settings]


def original_units(target: Tensor, loss: Loss, preprocessing: Preprocessing | None) -> Tensor:
    """Regression targets in their own units, in float64; anything else as it is.

    Args:
        target: as the loss sees it.
        loss: which it is for.
        preprocessing: None where the data came without.
    """
    if preprocessing is None or not loss.task.standardizes:
        return target
    return preprocessing.original_units(target.double())


def in_units(
    predictions: Tensor, loss: Loss, preprocessing: Preprocessing | None, units: Sequence[Unit] = ("location",)
) -> Tensor:
    """Regression predictions in the target's units, in float64, clipped where that was asked for; others as they are.

    Args:
        predictions: points, or all that the loss's link gives.
        loss: which predicts them.
        preprocessing: None where the data came without.
        units: of predictions, those of the loss.
    """
    if preprocessing is None or not loss.task.standardizes:
        return predictions
    return preprocessing.clipped(preprocessing.original_units(predictions.double(), units), units)


def scores_of(network: nn.Module, preprocessing: Preprocessing, frame: polars.DataFrame, where: str) -> Tensor:
    """The network's scores for the rows of a table, in float64 on the CPU; encoded some rows at a time.

    Raises:
        DataError: for rows that cannot be encoded.
    """
    parameter = next(network.parameters(), torch.zeros(()))
    size = min(_PREDICTION_ROWS, rows_of(_PREDICTION_NUMBERS, preprocessing.scaling.features))
    found = []
    with torch.no_grad(), deterministic_eval(network), worded_for_all_rows(lambda: preprocessing.check(frame, where)):
        for start, stop in intervals(frame.height, size):
            features = preprocessing.features(frame[start:stop], where, np.arange(start, stop))
            found.append(network(features.to(parameter)).double().cpu())
    return torch.cat(found)
