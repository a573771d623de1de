"""Gradients by torch's autograd, for any network and loss."""

from __future__ import annotations

import torch
from torch import Tensor

from torchplug.batch import Batch
from torchplug.engine.contract import GradientEngine


class Autograd(GradientEngine):
    """Backward pass through network, loss and penalties."""

    name = "autograd"

    def with_precomputed_grad(self, batch: Batch, world: int, window: int) -> Tensor:
        """Return this rank's scaled loss of one micro-batch of a window."""
        value, weighted = self._objective.scaled_loss(batch, world, window)
        self._losses.add(weighted, len(batch.weight))
        return value

    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Write this rank's part of the gradient to the parameters' `grad`."""
        if self._storage is not None:
            self._storage.gradient.zero_()
        else:
            for parameter in self._parameters:
                parameter.grad = None
        with torch.enable_grad():
            with self._context():
                value, weighted = self._objective.scaled_loss(batch, world, 1, uniform)
            torch.autograd.backward(value)
        self._losses.add(weighted, len(batch.weight))
