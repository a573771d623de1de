"""What `ComponentModule`'s hooks delegate to: how data becomes optimizer steps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from torchplug.batch import Batch, Groups
from torchplug.component import Iteration, Outcome
from torchplug.objective import StepObjective

ParameterGroups = Sequence[Mapping[str, Any]]
"""Groups of an optimizer's parameters, as (name, parameter) pairs."""
Build = Callable[[ParameterGroups], Optimizer]
"""Makes the optimizer over such groups, or over groups of flat tensors."""


class Fit:
    """What belongs to one fit, built whole in `on_train_start`; this one stands where there is none yet."""

    @property
    def outcome(self) -> Outcome | None:
        """How a full-batch optimizer ended the training; None while it goes on, and for minibatches."""
        return None

    @property
    def iteration(self) -> Iteration | None:
        """The last step of a full-batch optimizer, else None."""
        return None

    @property
    def statistics(self) -> Any:
        """Standard errors and the like, where a full-batch optimizer gives them, else None."""
        return None

    def is_boundary(self) -> bool:
        """Whether training may stop after the last step, to be resumed later with the same bits."""
        return True

    def state(self) -> dict[str, Any]:
        """Return what this rank needs beside parameters and optimizer to go on with the same bits, as plain data."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""


class Strategy(ABC):
    """How data becomes optimizer steps. A copy or pickle of it holds its options and nothing of a fit.

    Attributes:
        fit: the fit under way, or the last one.
    """

    fit: Fit = Fit()

    def notes(self, trainer: Trainer, network: nn.Module, rows: int) -> list[str]:
        """Return what the user should know of a fit to come and did not ask; `rows` are those of a rank's batch."""
        return []

    def configure(
        self, trainer: Trainer, objective: StepObjective, groups: ParameterGroups, build: Build, elementwise: bool
    ) -> Optimizer:
        """Build the optimizer, before its state is restored.

        Args:
            trainer: of the fit to come.
            objective: its network and loss.
            groups: of the optimizer.
            build: makes the optimizer.
            elementwise: whether the optimizer may see a group as one flat tensor.
        """
        return build(groups)

    @abstractmethod
    def start(self, trainer: Trainer, objective: StepObjective) -> None:
        """Build the fit, once parameters, optimizer and loaders are in place."""

    @abstractmethod
    def refresh_trainable(self, objective: Callable[[], StepObjective]) -> None:
        """Begin an epoch with the layers that a callback has frozen or unfrozen since."""

    def run_ahead(self, groups: Groups) -> Iterator[Batch]:
        """Yield the batches for the trainer's own steps; those before them in their groups are trained on first."""
        return (group.last() for group in groups(lambda: 1))

    def training_step(self, batch: Batch) -> Tensor:
        """Return what this rank backpropagates in a step of the trainer's."""
        raise NotImplementedError(f"{type(self).__name__} makes its steps without a backward pass")

    def before_update(self) -> None:  # noqa: B027 - not every strategy looks at gradients
        """Look at the reduced, unscaled gradient, ahead of clipping and the update."""

    @abstractmethod
    def optimizer_step(self, optimizer: Any, closure: Any) -> None:
        """Make the step; `closure` runs forward and backward pass, and `optimizer` is Lightning's wrapper."""

    def after_batch(self) -> None:  # noqa: B027 - not every strategy has something outstanding
        """End a batch, which may lie in the middle of an accumulation window."""

    @abstractmethod
    def after_epoch(self) -> None:
        """Write the epoch's mean loss."""

    def settle(self) -> None:  # noqa: B027 - not every strategy defers something
        """Bring the parameters to where they are evaluated and saved, the same on every rank, or raise."""

    def end(self) -> None:  # noqa: B027 - not every strategy holds something
        """Give up what was held for the fit."""
