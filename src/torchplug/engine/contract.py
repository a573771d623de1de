"""The interfaces of gradient engines and of their collaborators."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor
from torch.optim import Optimizer

from torchplug.batch import Batch, Rows
from torchplug.flat_storage import FlatStorage
from torchplug.objective import StepObjective


class Losses(Protocol):
    """Receives the losses that an engine computes."""

    total: Tensor
    """Σ wℓ of the batches that were added and not yet moved to a sum, in float64."""

    def add(self, weighted: Tensor, rows: int) -> None:
        """Add a batch's Σ wℓ and its number of rows."""

    def advance_total(self, total: Tensor, rows: int) -> None:
        """Set `total` to a value that includes `rows` more rows."""

    def defer(self, scores: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """Add a batch whose Σ wℓ is computed later; `weight` is None where all are 1."""


class Precision(Protocol):
    """The trainer's precision plugin."""

    @property
    def precision(self) -> str:
        """The precision, as Lightning spells it."""
        ...

    def forward_context(self) -> AbstractContextManager[None]:
        """Return the context of the forward pass."""
        ...


class FusedSteps(Protocol):
    """Executor of several whole steps at once, by an optimizer's `update_fn`."""

    def update(self) -> None:
        """Update parameters and state by the present gradients, in a step that the trainer makes."""

    def prepare(self, rows: Rows, count: int) -> Callable[[], None] | None:
        """Compute several steps without applying them.

        Args:
            rows: the concatenated batches of all steps, equally many rows each.
            count: the number of steps.

        Returns:
            A function that sets parameters and state, and writes the last step's gradient to `grad`; None where steps
            must be made one by one.
        """


class GradientEngine(ABC):
    """Computes the gradient of an optimizer step.

    Args:
        objective: F on a minibatch.
        losses: receives the losses of batches.
        storage: the flat storage of parameters and gradients, if there is one.
        context: the context of a forward pass without Lightning.
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

    def _prepare(self) -> None:  # noqa: B027 - optional
        """Prepare the engine once, at the end of the constructor; nothing unless overridden."""

    def renew(self) -> None:  # noqa: B027 - optional
        """Drop what was derived from attributes that may have changed; nothing unless overridden."""

    @abstractmethod
    def with_precomputed_grad(self, batch: Batch, world: int, window: int) -> Tensor:
        """Return a value whose backward pass gives this rank's part of the gradient, scaled for Lightning and DDP.

        Args:
            batch: one micro-batch.
            world: the number of ranks.
            window: the number of micro-batches that Lightning accumulates.
        """

    @abstractmethod
    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Write this rank's part of the gradient to the parameters' `grad`; called under `no_grad`.

        Args:
            batch: the batch of one optimizer step.
            world: the number of ranks.
            uniform: whether every weight is 1.
        """

    def fused_steps(self, optimizer: Optimizer) -> FusedSteps | None:
        """Return an executor of several whole steps with this optimizer; None unless overridden."""
        return None
