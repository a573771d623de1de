"""The state of a minibatch fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Trainer
from torch import nn

from torchplug.objective import StepObjective
from torchplug.objective.reductions import Ranks
from torchplug.training.layout import Layout
from torchplug.training.lightning_internals import write_epoch_row
from torchplug.training.options import Execution
from torchplug.training.resumption import epoch_is_complete
from torchplug.training.running_means import RunningMeans
from torchplug.training.step_log import StepLog
from torchplug.training.stepper import Stepper
from torchplug.training.strategy import Fit
from torchplug.training.threads import threads_of_steps


class MinibatchFit(Fit):
    """The state of a minibatch fit, beside parameters and optimizer.

    The sums behind `train/loss` stay on the device: a logged row costs one synchronization, a step none.

    Args:
        trainer: the trainer; its optimizer and loaders exist.
        objective: F on a minibatch.
        layout: the parameters' memory layout and the optimizer.
        options: how steps are executed.

    Attributes:
        rows: rows of a rank's batch.
        ranks: the ranks of the job.
        means: the mean loss since the last row and since the epoch's start.
        log: rows of the log.
        threads: context of steps, which limits threads.
        stepper: makes optimizer steps.
    """

    def __init__(self, trainer: Trainer, objective: StepObjective, layout: Layout, options: Execution) -> None:
        self.trainer = trainer
        self.layout = layout
        self.options = options
        self.rows: int = getattr(trainer.train_dataloader, "batch_size", None) or 1
        device = self.trainable()[0][1].device
        self.ranks = Ranks(trainer.global_rank, trainer.world_size)
        self.means = RunningMeans(device, objective.loss, self.ranks)
        self.log = StepLog(trainer, self.means)
        self.stepper = Stepper(self, objective)
        self.threads = threads_of_steps(objective.network, self.rows, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        """Return the module's parameters that currently require gradients, with names."""
        return [(name, p) for name, p in self.trainer.lightning_module.named_parameters() if p.requires_grad]

    def refresh_trainable(self, objective: Callable[[], StepObjective]) -> None:
        """Build another stepper if layers were frozen or unfrozen."""
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
        """Write the epoch's mean loss; nothing for an epoch that was stopped before its first step."""
        with self.threads:
            sums = None if epoch_is_complete(self.trainer) else self.means.state()
            total, rows = self.means.epoch()
            if sums is not None:  # the epoch was cut short; a resumed fit completes it
                self.means.restore(sums)
        if rows:
            write_epoch_row(self.trainer, {"train/epoch_loss": total / rows})

    def is_boundary(self) -> bool:
        """Whether training may stop after the last step: with parameter averaging, only where ranks are averaged."""
        averaging = self.stepper.averaging
        return averaging is None or averaging.is_due(self.trainer.global_step)

    def state(self) -> dict[str, Any]:
        """Return this rank's sums and, with parameter averaging, its optimizer state."""
        own = None if self.stepper.averaging is None else self.trainer.optimizers[0].state_dict()
        return {"means": self.means.state(), "row_at": self.log.row_at, "optimizer": own}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.means.restore(state["means"])
        self.log.row_at = state["row_at"]
        if self.stepper.averaging is not None and state["optimizer"] is not None:
            self.trainer.optimizers[0].load_state_dict(state["optimizer"])

    def end(self) -> None:
        """Restore parameters and optimizer to memory and updates of their own."""
        self.layout.release()
        self.layout.update.restore()
