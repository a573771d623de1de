"""What belongs to a fit by minibatches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import nn

from torchplug.execution.averaging import Ranks
from torchplug.execution.layout import Layout
from torchplug.execution.lightning_internals import write_epoch_row
from torchplug.execution.options import Execution
from torchplug.execution.processor import Processor
from torchplug.execution.resumption import epoch_is_complete
from torchplug.execution.running_means import RunningMeans
from torchplug.execution.step_log import StepLog
from torchplug.execution.stepper import Stepper
from torchplug.execution.strategy import Fit
from torchplug.objective import StepObjective


class MinibatchFit(Fit):
    """What belongs to a fit by minibatches, beside parameters and optimizer.

    The sums behind `train/loss` stay on the device: a logged row costs one synchronization, a step none.

    Args:
        trainer: of the fit; its optimizer and loaders are in place.
        objective: F on a minibatch.
        layout: where the parameters lie.
        options: how steps are executed.

    Attributes:
        rows: the rows of a rank's batch.
        ranks: who trains together.
        means: the loss since the last row and since the epoch's start.
        log: which steps there are rows after.
        processor: entered where steps are made.
        stepper: makes them.
    """

    def __init__(self, trainer: Trainer, objective: StepObjective, layout: Layout, options: Execution) -> None:
        self.trainer = trainer
        self.layout = layout
        self.options = options
        self.rows: int = getattr(trainer.train_dataloader, "batch_size", None) or 1
        device = self.trainable()[0][1].device
        self.ranks = Ranks(trainer.world_size, device)
        self.means = RunningMeans(device, objective.loss, self.ranks)
        self.log = StepLog(trainer, self.means)
        self.stepper = Stepper(self, objective)
        self.processor = Processor(objective.network, self.rows, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """The module's parameters that require gradients now, with names."""
        return [(name, p) for name, p in self.trainer.lightning_module.named_parameters() if p.requires_grad]

    def refresh_trainable(self, objective: Callable[[], StepObjective]) -> None:
        """Take up the layers that were frozen or unfrozen."""
        if not self.stepper.trains(self.trainable()):
            self.layout.release()
            self.stepper = Stepper(self, objective())

    def row(self) -> dict[str, float]:
        """Synchronize with the device, and return the row to log.

        Raises:
            NonFiniteGradientError: if a gradient was not finite.
        """
        self.stepper.raise_if_nonfinite(self.trainer.current_epoch)
        return self.log.row()

    def write_epoch(self) -> None:
        """Write the epoch's mean loss."""
        with self.processor:
            sums = None if epoch_is_complete(self.trainer) else self.means.state()
            total, rows = self.means.epoch()
            if sums is not None:  # the epoch was cut short, and goes on when the fit is resumed
                self.means.restore(sums)
        write_epoch_row(self.trainer, {"train/epoch_loss": total / rows})

    def is_boundary(self) -> bool:
        """Whether training may stop after the last step: ranks that step on their own have the same parameters."""
        averaging = self.stepper.averaging
        return averaging is None or averaging.is_due(self.trainer.global_step)

    def state(self) -> dict[str, Any]:
        """Return this rank's sums and, where it has one of its own, its optimizer's state."""
        own = None if self.stepper.averaging is None else self.trainer.optimizers[0].state_dict()
        return {"means": self.means.state(), "row_at": self.log.row_at, "optimizer": own}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.means.restore(state["means"])
        self.log.row_at = state["row_at"]
        if self.stepper.averaging is not None and state["optimizer"] is not None:
            self.trainer.optimizers[0].load_state_dict(state["optimizer"])

    def end(self) -> None:
        """Give parameters and optimizer back as they came, and what was taken of the machine."""
        self.layout.release()
        self.layout.update.restore()
        self.processor.end()
        self.ranks.close()
