"""The best epoch of many models, each by its own validation loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchplug.many.stack import chosen


class BestEpochs:
    """What best.ckpt is for a single fit, for K of them: the epoch of lowest `val/loss`, the last of equals.

    A loss that is NaN counts as infinite.

    Args:
        models: K.
    """

    def __init__(self, models: int) -> None:
        self._lowest = torch.full((models,), math.inf, dtype=torch.float64)
        self._found = torch.zeros(models, dtype=torch.bool)
        self._parameters: dict[str, Tensor] = {}
        self._metrics: dict[str, Tensor] = {}

    def note(self, trained: Tensor, parameters: Mapping[str, Tensor], metrics: Mapping[str, Tensor]) -> None:
        """Take up an epoch.

        Args:
            trained: which models trained in it, (K,) bool.
            parameters: and buffers, (K, …) by name.
            metrics: (K,) by name, `val/loss` among them.
        """
        losses = metrics["val/loss"].nan_to_num(nan=math.inf)
        better = trained & (losses <= self._lowest)
        self._lowest = torch.where(better, losses, self._lowest)
        self._found = self._found | better
        self._parameters = _updated(self._parameters, parameters, better)
        self._metrics = _updated(self._metrics, metrics, better)

    def has(self, model: int) -> bool:
        """Whether a model has trained for an epoch."""
        return bool(self._found[model])

    def parameters_of(self, model: int) -> dict[str, Tensor]:
        """One model's, at its best epoch, on the CPU."""
        return {name: own[model].cpu() for name, own in self._parameters.items()}

    def metrics_of(self, model: int) -> dict[str, float]:
        """One model's, at its best epoch."""
        return {name: float(own[model]) for name, own in self._metrics.items()}

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        index = list(models)
        self._lowest, self._found = self._lowest[index], self._found[index]
        self._parameters = {name: own[index] for name, own in self._parameters.items()}
        self._metrics = {name: own[index] for name, own in self._metrics.items()}

    def state(self) -> dict[str, Any]:
        """What has been found so far, for a checkpoint."""
        parameters = {name: own.cpu() for name, own in self._parameters.items()}
        return {
            "lowest": self._lowest,
            "found": self._found,
            "parameters": parameters,
            "metrics": dict(self._metrics),
        }

    def load(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Restore what `state` returned; the parameters are on this device."""
        self._lowest, self._found = state["lowest"].clone(), state["found"].clone()
        self._parameters = {name: own.to(device, copy=True) for name, own in state["parameters"].items()}
        self._metrics = {name: own.clone() for name, own in state["metrics"].items()}


def _updated(before: Mapping[str, Tensor], now: Mapping[str, Tensor], better: Tensor) -> dict[str, Tensor]:
    if not before:
        return {name: own.clone() for name, own in now.items()}
    return {name: chosen(better.to(own.device), own, before[name]) for name, own in now.items()}
