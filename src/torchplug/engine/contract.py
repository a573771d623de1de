"""What an engine is, and what it tells on the way."""

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
    """What an engine tells of the losses on its way."""

    total: Tensor
    """Σ wℓ of what was added since it was last settled, in float64."""

    def add(self, weighted: Tensor, rows: int) -> None:
        """A batch's Σ wℓ and its number of rows."""

    def go_on(self, total: Tensor, rows: int) -> None:
        """The same total, after as many rows more were added."""

    def defer(self, scores: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """What a batch's Σ wℓ can be computed from later; without weights where all are 1."""


class Precision(Protocol):
    """What an engine asks of the trainer's precision."""

    @property
    def precision(self) -> str:
        """As Lightning spells it."""
        ...

    def forward_context(self) -> AbstractContextManager[None]:
        """What the forward pass runs in."""
        ...


class FusedSteps(Protocol):
    """What makes whole steps, several at a time, by an optimizer's formula."""

    def update(self) -> None:
        """Advance parameters and state by the gradients that are there, for a step that somebody else makes."""

    def made(self, rows: Rows, count: int) -> Callable[[], None] | None:
        """Compute several steps.

        Args:
            rows: of all steps and all there are of each, one after the other, equally many each.
            count: how many steps.

        Returns:
            what moves parameters and state there, and leaves the last step's gradient in `grad`; None where steps must
            be made one by one.
        """


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

    def renew(self) -> None:  # noqa: B027 - not every engine keeps something
        """Take up what others may have changed since the last call of Lightning's; nothing unless overridden."""

    @abstractmethod
    def with_precomputed_grad(self, batch: Batch, world: int, window: int) -> Tensor:
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

    def whole_steps(self, optimizer: Optimizer) -> FusedSteps | None:
        """What makes whole steps with this optimizer, several at once; None unless an engine can."""
        return None
