"""Early stopping of many models at once, each by its own metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

WATCHED = ("train/epoch_loss", "val/loss")
"""The metrics that a program has after each epoch."""


class EarlyStops:
    """What Lightning's `EarlyStopping` decides for a single fit, for K of them.

    Args:
        callback: whose settings hold.
        models: K.
    """

    def __init__(self, callback: EarlyStopping, models: int) -> None:
        self._callback = callback
        self._sign = 1.0 if callback.mode == "min" else -1.0
        self._best = torch.full((models,), math.inf, dtype=torch.float64)
        self._waited = torch.zeros(models, dtype=torch.int64)

    @property
    def monitor(self) -> str:
        """The name of the metric."""
        return self._callback.monitor

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        self._best, self._waited = self._best[list(models)], self._waited[list(models)]

    def state(self) -> dict[str, Tensor]:
        """What has been seen so far, for a checkpoint."""
        return {"best": self._best, "waited": self._waited}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        self._best, self._waited = state["best"].clone(), state["waited"].clone()

    def stop(self, metric: Tensor) -> dict[int, str]:
        """Which models stop after an epoch with these values, (K,), and why."""
        callback, values = self._callback, metric.double() * self._sign
        better = values + abs(callback.min_delta) < self._best
        self._best = torch.where(better, values, self._best)
        self._waited = torch.where(better, 0, self._waited + 1)
        reasons = dict.fromkeys(
            (self._waited >= callback.patience).nonzero().flatten().tolist(),
            f"{self.monitor} did not improve in the last {callback.patience} epochs",
        )
        for limit, sign, word in (
            (callback.divergence_threshold, -1.0, "divergence threshold"),
            (callback.stopping_threshold, 1.0, "stopping threshold"),
        ):
            if limit is not None:
                beyond = sign * values < sign * self._sign * limit
                reasons |= dict.fromkeys(beyond.nonzero().flatten().tolist(), f"{self.monitor} passed the {word}")
        if callback.check_finite:
            unsound = (~values.isfinite()).nonzero().flatten().tolist()
            reasons |= dict.fromkeys(unsound, f"{self.monitor} is not finite")
        return reasons
