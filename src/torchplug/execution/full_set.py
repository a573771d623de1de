"""One optimizer step per epoch, on the whole training set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, StochasticWeightAveraging
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from torchplug.batch import Batch, Groups, TrainingSet
from torchplug.component import Iteration, Need, Outcome
from torchplug.engine import carried
from torchplug.errors import ConfigurationError
from torchplug.execution.ending import trainer_outcome
from torchplug.execution.lightning_internals import write_epoch_row, write_row
from torchplug.objective import Objective, StepObjective

_REDUCED_PRECISIONS = ("16-mixed", "16-true", "bf16-true", "transformer-engine", "transformer-engine-float16")


class FullSet:
    """One optimizer step per epoch, which asks the objective what it wants to know.

    Automatic optimization stays on: the closure carries F and its gradient through Lightning's backward pass, DDP
    included. Evaluating it costs no pass over the rows that the optimizer
    does not use as well.

    Attributes:
        iteration: the last step that was made; None before the first.
        outcome: how training ended; None while it goes on.
    """

    def __init__(self, name: str, needs: frozenset[Need]) -> None:
        self._name = name
        self._needs = needs
        self._trainer: Trainer
        self._problem: StepObjective
        self._objective: Objective
        self._optimizer: Any = None
        self._logged: Iteration | None = None
        self._limit: Outcome | None = None

    def __reduce__(self) -> tuple[type[FullSet], tuple[str, frozenset[Need]]]:
        return FullSet, (self._name, self._needs)

    @property
    def iteration(self) -> Iteration | None:
        """The last step that was made; None before the first."""
        return getattr(self._optimizer, "iteration", None)

    @property
    def outcome(self) -> Outcome | None:
        """How training ended; None while it goes on."""
        return getattr(self._optimizer, "outcome", None) or self._limit

    @property
    def statistics(self) -> Any:
        """What the optimizer says of how sure the coefficients are: standard errors and the like; None if nothing."""
        return getattr(self._optimizer, "statistics", None)

    def refuse_settings(self, trainer: Trainer) -> None:
        """Refuse what the trainer would do to the optimizer's steps.

        Raises:
            ConfigurationError: naming the setting and the remedy.
        """
        checks = [
            (
                trainer.accumulate_grad_batches != 1,
                "there is nothing to accumulate",
                "leave accumulate_grad_batches at 1",
            ),
            (
                bool(trainer.gradient_clip_val),
                "its gradient must stay what it is, unclipped",
                "leave gradient_clip_val unset",
            ),
            (
                trainer.limit_train_batches < 1,
                "there is no part of its batches to train on",
                "leave limit_train_batches and overfit_batches out, or give it fewer rows",
            ),
            (
                trainer.precision in _REDUCED_PRECISIONS,
                f"precision {trainer.precision} would lose the digits that it decides by",
                "use precision 32-true or 64-true (it computes in double precision either way)",
            ),
            (
                not isinstance(trainer.strategy, DDPStrategy | SingleDeviceStrategy),
                f"{type(trainer.strategy).__name__}, which shards parameters, cannot be used",
                "use strategy ddp",
            ),
        ]
        for found, trouble, remedy in checks:
            if found:
                raise self._refusal(trouble, remedy)

    def notes(self, trainer: Trainer, network: nn.Module, rows: int) -> list[str]:
        """Nothing is decided here that was not asked for."""
        return []

    def run_ahead(self, groups: Groups) -> Iterator[Batch]:
        """Every step is Lightning's own."""
        return (group.last() for group in groups(lambda: 1))

    def boundary_steps(self, network: nn.Module, rows: int) -> int:
        """Ranks ask each other after every step whether to stop."""
        return 1

    def is_boundary(self) -> bool:
        """Training may stop after every step."""
        return True

    def refuse(self, optimizer: Any, problem: StepObjective, training_set: TrainingSet) -> None:
        """Refuse a model, or a size, that the optimizer cannot train.

        Raises:
            ConfigurationError: saying what stands against it, and the remedy.
        """
        if any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training for m in problem.network.modules()):
            raise self._refusal(
                "batch normalization, which makes a row's loss depend on its batch, cannot be trained",
                "set batch_norm: false, or put these layers into evaluation mode",
            )
        objective = _objective(problem, training_set)
        if Need.LINEAR_RESIDUALS in self._needs and not objective.has_linear_residuals():
            raise ConfigurationError(
                f"{self._name} needs a model that is linear in its parameters, and this one is not: use the model "
                "linear, or another optimizer such as levenberg_marquardt"
            )
        if Need.PIECEWISE_LINEAR in self._needs and not objective.has_linear_scores():
            raise ConfigurationError(
                f"{self._name} needs a model that is linear in its parameters, and this one is not: use the model "
                "linear, or an optimizer for minibatches such as adam"
            )
        try:
            getattr(optimizer, "refuse", lambda objective: None)(objective)
        except ValueError as error:
            raise ConfigurationError(f"{self._name}: {' '.join(str(error).split())}") from error

    def _refusal(self, trouble: str, remedy: str) -> ConfigurationError:
        return ConfigurationError(f"{self._name} sees the whole training set at once, so {trouble}: {remedy}")

    def arrange(
        self, trainer: Trainer, objective: StepObjective, groups: Sequence[Mapping[str, Any]], flat: bool
    ) -> list[dict[str, Any]]:
        """Parameters stay where they are: an iteration is worth a pass over the rows, whatever else it costs."""
        return [dict(group) for group in groups]

    def take(self, optimizer: Optimizer) -> None:
        """Take up the optimizer, whose state may be restored later."""
        self._optimizer = optimizer

    def start(self, trainer: Trainer, problem: StepObjective) -> None:
        """Take up a fit whose parameters and optimizer are in place; one that is finished takes no further step.

        Raises:
            ConfigurationError: for a loader of batches, for callbacks that want a learning rate where there is none, or
                for what `refuse` refuses.
        """
        loader: Any = trainer.train_dataloader
        if not hasattr(loader, "training_set"):
            raise self._refusal(
                f"it cannot be fed by a {type(loader).__name__}, which gives batches",
                "use TabularData, or a loader with an attribute training_set",
            )
        self._trainer, self._problem = trainer, problem
        self._optimizer = trainer.optimizers[0]
        self._refuse_callbacks(trainer)
        self.refuse(self._optimizer, problem, loader.training_set)
        self._objective = _objective(problem, loader.training_set)
        self._logged, self._limit = self.iteration, None
        if self.outcome is not None:
            trainer.should_stop = True

    def _refuse_callbacks(self, trainer: Trainer) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            wants_rate = isinstance(callback, LearningRateMonitor | StochasticWeightAveraging)
            if wants_rate and "lr" not in self._optimizer.defaults:
                raise self._refusal("it has no learning rate", f"leave the callback {type(callback).__name__} out")

    def follow(self, objective: Callable[[], StepObjective]) -> None:
        """Take up the layers that a callback has frozen or unfrozen since."""
        current = [p for m in (self._problem.network, self._problem.loss) for p in m.parameters() if p.requires_grad]
        if [id(p) for p in current] != [id(p) for p in self._objective.parameters]:
            self._problem = objective()
            self._objective = _objective(self._problem, self._objective.training_set)

    def training_step(self, batch: TrainingSet) -> Tensor:
        """A tensor whose value is F and whose backward pass gives ∇F, the same on every rank."""
        value, gradient = self._objective.evaluate()
        return carried(gradient.new_tensor(value), self._objective.split(gradient), self._objective.parameters)

    def zero_gradient(self, zero: Callable[[], None]) -> None:
        """Forget the last step's gradient."""
        zero()

    def before_update(self) -> None:
        """Solvers watch the gradient themselves."""

    def optimizer_step(self, step: Callable[..., Any]) -> None:
        """Run the update, and end the training where it has come to an outcome."""
        start, before = self._objective.point, self.iteration
        try:
            with warnings.catch_warnings():
                if not self._trainer.is_global_zero:  # every rank would say the same
                    warnings.simplefilter("ignore")
                step(objective=self._objective)
        except BaseException:  # Ctrl-C among them: what is saved now must not be a trial
            if self.iteration == before:
                self._put_back(start)
            raise
        if self.outcome is not None:
            self._trainer.should_stop = True
        self._write_row()

    @torch.no_grad()
    def _put_back(self, point: Tensor) -> None:
        """As `Objective.move`, but without waiting for ranks that may be elsewhere."""
        for parameter, part in zip(self._objective.parameters, self._objective.split(point), strict=True):
            parameter.copy_(part)

    def after_batch(self) -> None:
        """The iteration's row is written already."""

    def _write_row(self) -> None:
        """Write the iteration's row; each is worth a pass over the rows, so none waits for a logging interval."""
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
        write_row(self._trainer, {name: float(value) for name, value in row.items() if value is not None})

    def after_epoch(self) -> None:
        """Write the data's part of F after the step."""
        write_epoch_row(self._trainer, {"train/epoch_loss": self._objective.loss_value()})

    def state(self) -> dict[str, Any]:
        """Nothing: all that a solver needs is in its optimizer's state."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing is kept outside of the optimizer."""

    def end(self) -> None:
        """Where the optimizer has not ended the training, the trainer has: by a limit, or for a callback."""
        if self.outcome is None:
            self._limit = trainer_outcome(self._trainer)

    def look(self) -> None:
        """Nothing waits on the device to be looked at."""

    def make_alike(self) -> None:
        """Every rank has the same parameters at any time."""

    def evaluate_here(self) -> None:
        """The parameters stand where they are to be evaluated."""


def _objective(problem: StepObjective, training_set: TrainingSet) -> Objective:
    regularizers = [regularizer for regularizer, _ in problem.penalties]
    return Objective(problem.network, problem.loss, regularizers, training_set, problem.reduction)
