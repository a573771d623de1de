"""One optimizer step per epoch, on the whole training set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from torchplug.batch import TrainingSet
from torchplug.objective import Objective, StepObjective
from torchplug.registry.component import Iteration, Outcome
from torchplug.training.ending import trainer_outcome
from torchplug.training.lightning_internals import mark_closure_done, write_epoch_row, write_row
from torchplug.training.strategy import Fit, Strategy


class FullBatchFit(Fit):
    """The state of a full-batch fit.

    Args:
        trainer: the trainer; its optimizer and loaders exist.
        problem: network, loss and penalties.
        training_set: all training rows.
    """

    def __init__(self, trainer: Trainer, problem: StepObjective, training_set: TrainingSet) -> None:
        self.trainer = trainer
        self.limit: Outcome | None = None
        self._optimizer: Any = trainer.optimizers[0]
        self._objective = full_batch_objective(problem, training_set)
        self._logged = self.iteration

    @property
    def iteration(self) -> Iteration | None:
        """The last step; None before the first."""
        return getattr(self._optimizer, "iteration", None)

    @property
    def outcome(self) -> Outcome | None:
        """How training ended; None while it runs."""
        return getattr(self._optimizer, "outcome", None) or self.limit

    @property
    def statistics(self) -> Any:
        """Standard errors and the like; None where the optimizer gives none."""
        return getattr(self._optimizer, "statistics", None)

    def refresh_trainable(self, problem: Callable[[], StepObjective]) -> None:
        """Rebuild the objective if layers were frozen or unfrozen."""
        objective = self._objective
        current = [p for m in (objective.network, objective.loss) for p in m.parameters() if p.requires_grad]
        if [id(p) for p in current] != [id(p) for p in objective.parameters]:
            self._objective = full_batch_objective(problem(), objective.training_set)

    def step(self) -> None:
        """Make a step, stop the trainer if it led to an outcome, and write the iteration's row."""
        start, before = self._objective.point, self.iteration
        try:
            with warnings.catch_warnings():
                if not self.trainer.is_global_zero:  # every rank would warn
                    warnings.simplefilter("ignore")
                self._optimizer.step(objective=self._objective)
        except BaseException:  # also after Ctrl-C: a checkpoint must not hold a trial point
            if self.iteration == before:
                self._put_back(start)
            raise
        if self.outcome is not None:
            self.trainer.should_stop = True
        self._write_row()

    @torch.no_grad()
    def _put_back(self, point: Tensor) -> None:
        """Restore the parameters without the collective call of `Objective.move`: other ranks may be elsewhere."""
        for parameter, part in zip(self._objective.parameters, self._objective.split(point), strict=True):
            parameter.copy_(part)

    def _write_row(self) -> None:
        """Write the iteration's row, independently of `log_every_n_steps`: a step costs a pass over the rows."""
        iteration = self.iteration
        if iteration is None or iteration == self._logged:
            return
        self._logged = iteration
        row = {
            "train/loss": self._objective.loss_value(),
            "train/objective": iteration.loss,
            "train/gradient_norm": iteration.gradient_norm,
            "train/step_size": iteration.step,
            "train/damping": iteration.damping,
            "train/evaluations": iteration.evaluations,
        }
        write_row(self.trainer, {name: float(value) for name, value in row.items() if value is not None})

    def write_epoch(self) -> None:
        """Write the data term of F after the step."""
        write_epoch_row(self.trainer, {"train/epoch_loss": self._objective.loss_value()})


class FullBatch(Strategy):
    """Strategy of one optimizer step per epoch on the whole training set: `step(objective=objective)`.

    The optimizer makes its step in Lightning's `optimizer_step` hook, whose closure is not run: there is no forward
    pass through DDP, no autograd and no gradient in `grad`, and hooks between them are not called.
    """

    fit: FullBatchFit

    def __reduce__(self) -> tuple[type[FullBatch], tuple[()]]:
        return FullBatch, ()

    def start(self, trainer: Trainer, objective: StepObjective) -> None:
        """Build the fit; an optimizer that has an outcome takes no further step."""
        loader: Any = trainer.train_dataloader
        self.fit = FullBatchFit(trainer, objective, loader.training_set)
        if self.fit.outcome is not None:
            trainer.should_stop = True

    def refresh_trainable(self, objective: Callable[[], StepObjective]) -> None:
        """Rebuild the objective if layers were frozen or unfrozen."""
        self.fit.refresh_trainable(objective)

    def optimizer_step(self, optimizer: Any, closure: Any) -> None:
        """Make the step instead of running Lightning's closure."""
        self.fit.step()
        mark_closure_done(closure)

    def after_epoch(self) -> None:
        """Write the data term of F after the step."""
        self.fit.write_epoch()

    def end(self) -> None:
        """Set the trainer's outcome if the optimizer did not end the training."""
        if self.fit.outcome is None:
            self.fit.limit = trainer_outcome(self.fit.trainer)


def full_batch_objective(problem: StepObjective, training_set: TrainingSet) -> Objective:
    """Return F on the whole training set with a step objective's network, loss and penalties."""
    regularizers = [regularizer for regularizer, _ in problem.penalties]
    return Objective(problem.network, problem.loss, regularizers, training_set, problem.reduction)
