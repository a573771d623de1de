"""What an engine is, and what it tells on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from torchplug.batch import Batch
from torchplug.flat_storage import FlatStorage
from torchplug.objective import StepObjective


class Losses(Protocol):
    """What an engine tells of the losses on its way."""

    def add(self, weighted: Tensor, rows: int) -> None:
        """A batch's Σ wℓ and its number of rows."""

    def defer(self, scores: Tensor, target: Tensor, weight: Tensor) -> None:
        """What a batch's Σ wℓ can be computed from later."""


class Precision(Protocol):
    """What an engine asks of the trainer's precision."""

    @property
    def precision(self) -> str:
        """As Lightning spells it."""
        ...

    def forward_context(self) -> AbstractContextManager[None]:
        """What the forward pass runs in."""
        ...


class GradientEngine(ABC):
    """How the gradient of one optimizer step is computed.

    Args:
        objective: F on a minibatch.
        losses: is told of the losses on the way.
        storage: where the parameters' gradients lie, if they lie in one place.
        context: what a forward pass without Lightning runs in.
    """

    name: str

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
        self._prepare()

    def _prepare(self) -> None:  # noqa: B027 - not every engine has something to prepare
        """What an engine makes of these, once; nothing unless overridden."""

    @abstractmethod
    def carried(self, batch: Batch, world: int, window: int) -> Tensor:
        """A value whose backward pass leads to this rank's share of the gradient, scaled for Lightning and DDP.

        Args:
            batch: one micro-batch.
            world: the number of ranks.
            window: how many micro-batches Lightning accumulates.
        """

    @abstractmethod
    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Leave this rank's share of the gradient in the parameters' `grad`; called without gradients.

        Args:
            batch: of one optimizer step.
            world: the number of ranks.
            uniform: whether every weight is 1.
        """
