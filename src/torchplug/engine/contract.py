"""What an engine is, and what it tells on the way."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor

from torchplug.batch import Batch


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


class GradientEngine(Protocol):
    """How the gradient of one optimizer step is computed."""

    name: str

    def carried(self, batch: Batch, world: int, window: int) -> Tensor:
        """A value whose backward pass leads to this rank's share of the gradient, scaled for Lightning and DDP."""
        ...

    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Leave this rank's share of the gradient in the parameters' `grad`."""
        ...
