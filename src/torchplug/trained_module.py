"""Lightning's hooks of training, which delegate to an execution strategy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.components.contracts import Loss
from torchplug.components.metrics import MetricChoice
from torchplug.evaluated_module import EvaluatedModule
from torchplug.objective import StepObjective
from torchplug.registry.component import Iteration, Outcome
from torchplug.training import Strategy
from torchplug.training.fit_progress import FitProgress
from torchplug.training.lightning_internals import resumes_within_epoch
from torchplug.training.watching import reason_to_end, step_watching_schedulers


class TrainedModule(EvaluatedModule):
    """A module that an execution strategy trains, and whose checkpoints hold how far the fit has come.

    Attributes:
        execution: the strategy.
    """

    def __init__(self, network: nn.Module | None, loss: Loss, metrics: MetricChoice, execution: Strategy) -> None:
        super().__init__(network, loss, metrics)
        self.execution = execution
        self._progress = FitProgress()

    @abstractmethod
    def step_objective(self) -> StepObjective:
        """Return F on a minibatch, at the parameters that require gradients now."""

    @property
    def outcome(self) -> Outcome | None:
        """How a full-batch optimizer or a schedule ended the training, else None."""
        return self.execution.fit.outcome

    @property
    def iteration(self) -> Iteration | None:
        """The last step of a full-batch optimizer, else None."""
        return self.execution.fit.iteration

    @property
    def statistics(self) -> Any:
        """Standard errors and the like, where a full-batch optimizer gives them, else None."""
        return self.execution.fit.statistics

    def on_fit_start(self) -> None:
        """A fit that is resumed starts with the metrics that it had, and without a calibration of other parameters."""
        self.calibration = None
        self._progress.restore_metrics(self.trainer)

    def on_train_start(self) -> None:
        """Build the fit, and do what was outstanding when it was saved."""
        self.execution.start(self.trainer, self.step_objective())
        self._progress.resume(self.trainer, self.execution.fit)
        if resumes_within_epoch(self.trainer):  # whose start has no hook
            self._begin_epoch()

    def on_train_epoch_start(self) -> None:
        """Take up the layers that a callback has frozen or unfrozen, and begin the epoch."""
        self.execution.refresh_trainable(self.step_objective)
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        """Anneal the network, and lead the trainer's next pass over its training loader through the strategy."""
        self.execution.anneal(self.trainer, self._built())
        loader: Any = self.trainer.train_dataloader
        if hasattr(loader, "through"):
            loader.through = self.execution.run_ahead

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return what this rank backpropagates."""
        self._progress.batch_begins(self.trainer, self.execution.fit)
        return self.execution.training_step(self._as_batch(batch, batch_idx))

    def backward(self, loss: Tensor, *arguments: Any, **keywords: Any) -> None:
        """Compute gradients."""
        self.execution.backward(loss)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Guard the reduced gradient, and measure it where a row is due."""
        self.execution.before_update()

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Make one step."""
        self.execution.optimizer_step(optimizer, optimizer_closure)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """In the middle of an accumulation window, parameters stand where they are to be evaluated."""
        self.execution.after_batch()

    def on_validation_start(self) -> None:
        """During a fit, check for non-finite gradients before anything is evaluated or saved."""
        if self._validates_a_fit():
            self.execution.settle()

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics, and note that there was a validation."""
        super().on_validation_epoch_end()
        if self._validates_a_fit():
            self._progress.validated(self.trainer)

    def _validates_a_fit(self) -> bool:
        return self.trainer.state.fn == "fit" and not self.trainer.sanity_checking

    def on_train_epoch_end(self) -> None:
        """Look at the device, write the epoch's mean loss; schedules that watch a metric step, or end the run."""
        self.execution.after_epoch()
        validated = self._progress.validated_in_epoch(self.trainer)
        step_watching_schedulers(self.trainer, validated)
        if (reason := reason_to_end(self.trainer, validated)) is not None:
            self.execution.end_early(self.trainer, reason)
        self._progress.epoch_ended(self.trainer)

    def on_train_end(self) -> None:
        """Give up what was held for the fit."""
        self.execution.end()
