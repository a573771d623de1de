"""The interface of execution strategies, to which `ComponentModule`'s hooks delegate."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from torchplug.batch import Batch, Groups
from torchplug.objective import StepObjective
from torchplug.registry.component import Iteration, Outcome

ParameterGroups = Sequence[Mapping[str, Any]]
"""Groups of an optimizer's parameters, as (name, parameter) pairs."""
Build = Callable[[ParameterGroups], Optimizer]
"""Builds the optimizer over such groups, or over groups of flat tensors."""


class Fit:
    """The state of a fit, built in `on_train_start`; this base class is the state before any fit."""

    ended_early: Outcome | None = None
    """Set where a schedule has ended the training."""

    @property
    def outcome(self) -> Outcome | None:
        """How a full-batch optimizer or a schedule ended the training; None while it runs, and where a limit did."""
        return self.ended_early

    @property
    def iteration(self) -> Iteration | None:
        """The last step of a full-batch optimizer, else None."""
        return None

    @property
    def statistics(self) -> Any:
        """A full-batch optimizer's statistics, such as standard errors, else None."""
        return None

    def is_boundary(self) -> bool:
        """Whether training may stop after the last step and be resumed bit for bit."""
        return True

    def state(self) -> dict[str, Any]:
        """Return as plain data what this rank needs, beside parameters and optimizer, to resume bit for bit."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""


class Strategy(ABC):
    """How data becomes optimizer steps; a copy or pickle has the options only.

    Attributes:
        fit: the current or last fit.
    """

    fit: Fit = Fit()

    def notes(self, trainer: Trainer, network: nn.Module, rows: int) -> list[str]:
        """Return notes for the user on a fit to come; `rows` are those of a rank's batch."""
        return []

    def configure(
        self, trainer: Trainer, objective: StepObjective, groups: ParameterGroups, build: Build, elementwise: bool
    ) -> Optimizer:
        """Build the optimizer, before its state is restored.

        Args:
            trainer: the trainer, before the fit.
            objective: F on a minibatch.
            groups: the optimizer's parameter groups.
            build: builds the optimizer.
            elementwise: whether a group may be passed to the optimizer as one flat tensor.
        """
        return build(groups)

    @abstractmethod
    def start(self, trainer: Trainer, objective: StepObjective) -> None:
        """Build the fit, when parameters, optimizer and loaders exist."""

    @abstractmethod
    def refresh_trainable(self, objective: Callable[[], StepObjective]) -> None:
        """Adapt to layers that a callback has frozen or unfrozen, at the start of an epoch."""

    def anneal(self, trainer: Trainer, network: nn.Module) -> None:  # noqa: B027 - optional
        """Tell a network that changes while it is trained which part of the run is over, at the start of an epoch."""

    def run_ahead(self, groups: Groups) -> Iterator[Batch]:
        """Yield each group's last batch for a step of the trainer's, after training on the leading ones."""
        return (group.last() for group in groups(lambda: 1))

    def training_step(self, batch: Batch) -> Tensor:
        """Return this rank's loss in a step of the trainer's."""
        raise NotImplementedError(f"{type(self).__name__} makes its steps without a backward pass")

    def backward(self, loss: Tensor) -> None:
        """Compute gradients in a step of the trainer's."""
        loss.backward()  # type: ignore[no-untyped-call]

    def before_update(self) -> None:  # noqa: B027 - optional
        """Inspect the reduced, unscaled gradient, before clipping and the update."""

    @abstractmethod
    def optimizer_step(self, optimizer: Any, closure: Any) -> None:
        """Make a step; `closure` runs the forward and backward pass, `optimizer` is Lightning's wrapper."""

    def after_batch(self) -> None:  # noqa: B027 - optional
        """End a batch, possibly within an accumulation window."""

    @abstractmethod
    def after_epoch(self) -> None:
        """Write the epoch's mean loss."""

    def end_early(self, trainer: Trainer, reason: str) -> None:
        """End the run after this epoch, as a schedule asks."""
        trainer.should_stop = True
        epochs = trainer.current_epoch + 1
        self.fit.ended_early = Outcome("limit", f"training ended after {epochs} epochs: {reason}", "resume to train on")

    def settle(self) -> None:  # noqa: B027 - optional
        """Move the parameters to where they are evaluated and saved, equal on every rank, or raise."""

    def end(self) -> None:  # noqa: B027 - optional
        """Release the resources of the fit."""
