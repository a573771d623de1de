"""The gradient by torch's autograd: any network, any loss."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from torchplug.batch import Batch
from torchplug.engine.contract import Losses
from torchplug.flat_storage import FlatStorage
from torchplug.objective import StepObjective


class Autograd:
    """Backward through network, loss and penalties.

    Args:
        objective: F on a minibatch.
        losses: is told each batch's Σ wℓ.
        storage: where the parameters' gradients lie, if they lie in one place.
        context: what a forward pass without Lightning runs in.
    """

    name = "autograd"

    def __init__(
        self,
        objective: StepObjective,
        losses: Losses,
        storage: FlatStorage | None,
        context: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._objective = objective
        self._losses = losses
        self._storage = storage
        self._context = context
        self._parameters = objective.parameters()

    def carried(self, batch: Batch, world: int, window: int) -> Tensor:
        """What this rank backpropagates for one micro-batch of a window."""
        value, weighted = self._objective.share(batch, world, window)
        self._losses.add(weighted, len(batch.weight))
        return value

    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Leave this rank's share of the gradient in the parameters' `grad`.

        Args:
            batch: of one optimizer step.
            world: the number of ranks.
            uniform: whether every weight is 1.
        """
        if self._storage is not None:
            self._storage.gradient.zero_()
        else:
            for parameter in self._parameters:
                parameter.grad = None
        with torch.enable_grad():
            with self._context():
                value, weighted = self._objective.share(batch, world, 1, uniform)
            torch.autograd.backward(value)
        self._losses.add(weighted, len(batch.weight))
