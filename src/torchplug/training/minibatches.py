"""One optimizer step per minibatch, or per accumulation window of minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.optim import Optimizer

from torchplug.batch import Batch, Groups
from torchplug.errors import NonFiniteGradientError
from torchplug.objective import StepObjective
from torchplug.training.annealing import anneal, passed_before_epoch
from torchplug.training.grouping import boundary_steps, steps_per_execution, why_single_steps
from torchplug.training.layout import Layout
from torchplug.training.lightning_internals import write_row
from torchplug.training.minibatch_fit import MinibatchFit
from torchplug.training.options import Execution
from torchplug.training.run_ahead import RunAhead
from torchplug.training.step_log import learning_rates
from torchplug.training.strategy import Build, ParameterGroups, Strategy


class Minibatches(Strategy):
    """Strategy of one optimizer step per minibatch, or per accumulation window of minibatches.

    Args:
        options: how steps are executed.
        declared: whether `update()` is declared to be the optimizer's step.
        closure: why the optimizer must have a closure at every step; None if it need not.
        graph: whether the optimizer differentiates the gradient.
    """

    fit: MinibatchFit

    def __init__(
        self, options: Execution, declared: bool = False, closure: str | None = None, graph: bool = False
    ) -> None:
        self.options = options
        self._declared = declared
        self._closure = closure
        self._graph = graph
        self._evaluations = 0
        self._layout: Layout | None = None
        self._run_ahead: RunAhead | None = None
        self._stepped = False
        self._failure: NonFiniteGradientError | None = None

    def __reduce__(self) -> tuple[type[Minibatches], tuple[Any, ...]]:
        return Minibatches, (self.options, self._declared, self._closure, self._graph)

    def notes(self, trainer: Trainer, network: nn.Module, rows: int) -> list[str]:
        """Return notes: why each call makes a single step, and which option has no effect."""
        notes, asked = [], self.options.steps_per_execution
        obstacle = why_single_steps(trainer, self._closure)
        if obstacle is None and steps_per_execution(asked, network, rows) == 1:
            obstacle = "for so large a network the overhead of a step is negligible"
        if obstacle is not None and asked == "auto":
            notes.append(f"steps_per_execution is 1: {obstacle}")
        if self.options.sync_every is not None and trainer.world_size == 1:
            notes.append("sync_every has no effect in a single process")
        return notes

    def configure(
        self, trainer: Trainer, objective: StepObjective, groups: ParameterGroups, build: Build, elementwise: bool
    ) -> Optimizer:
        """Flatten the parameters where possible, and build the optimizer over them."""
        if self._layout is not None:  # of an interrupted fit
            self._layout.release()
        if self._graph:  # its gradients are no views of flat storage
            self._layout = Layout(build(groups), declared=self._declared)
        else:
            self._layout = Layout.of(trainer, objective.network, groups, build, elementwise, self._declared)
        return self._layout.optimizer

    def start(self, trainer: Trainer, objective: StepObjective) -> None:
        """Build the fit."""
        layout, optimizer = self._layout, trainer.optimizers[0]
        if layout is None or layout.optimizer is not optimizer:  # a module may build another
            if layout is not None:
                layout.release()
            layout = self._layout = Layout(optimizer)
        self.fit = fit = MinibatchFit(trainer, objective, layout, self.options)
        self._stepped, self._failure, self._run_ahead = False, None, None
        most = steps_per_execution(self.options.steps_per_execution, objective.network, fit.rows)
        if most > 1 and why_single_steps(trainer, self._closure) is None:
            boundary = boundary_steps(objective.network, fit.rows, self.options.sync_every)
            self._run_ahead = RunAhead(fit, most, boundary)

    def refresh_trainable(self, objective: Callable[[], StepObjective]) -> None:
        """Rebuild the stepper if layers were frozen or unfrozen, and log learning rates that change per epoch."""
        trainer = self.fit.trainer
        if any(config.interval == "epoch" for config in trainer.lr_scheduler_configs):
            write_row(trainer, learning_rates(trainer.optimizers[0]))
        self.fit.refresh_trainable(objective)

    def anneal(self, trainer: Trainer, network: nn.Module) -> None:
        """Tell the network which part of the run is over before this epoch."""
        anneal(network, passed_before_epoch(trainer))

    def run_ahead(self, groups: Groups) -> Iterator[Batch]:
        """Train on the leading batches of each group, and yield its last for Lightning's step."""
        return super().run_ahead(groups) if self._run_ahead is None else self._run_ahead(groups)

    def training_step(self, batch: Batch) -> Tensor:
        """Return this rank's loss, scaled for Lightning's accumulation and DDP's averaging."""
        trainer = self.fit.trainer
        return self.fit.stepper.loss(batch, trainer.world_size, trainer.accumulate_grad_batches)

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, with their graph for an optimizer that differentiates them."""
        if not self._graph:
            super().backward(loss)
            return
        parameters = [p for _, p in self.fit.trainable()]
        gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient

    def before_update(self) -> None:
        """Check the gradient for non-finite values, and record its norm if a row is due."""
        self.fit.stepper.before_update(self.fit.trainer.global_step + 1, again=self._evaluations > 1)

    def optimizer_step(self, optimizer: Any, closure: Any) -> None:
        """Run Lightning's closure and the update."""
        fit = self.fit
        with fit.threads:
            fit.stepper.begin()
            optimizer.step(closure=closure if self._closure is None else partial(self._evaluate, closure))
            fit.stepper.end(inspected=True)
        self._stepped, self._evaluations = True, 0
        if fit.log.due:  # now: a checkpoint of this step is written before the module's `on_train_batch_end`
            try:
                with fit.threads:
                    row = fit.row()
                write_row(fit.trainer, row)
            except NonFiniteGradientError as failure:
                self._failure = failure  # raised when the trainer has counted the step

    def _evaluate(self, closure: Callable[[], Any]) -> Any:
        """Evaluate F and its gradient for an optimizer that may do so several times in a step.

        The first evaluation of a step is logged. F is averaged over ranks, so that all take the same decisions.
        """
        fit = self.fit
        self._evaluations += 1
        with fit.means.ignoring() if self._evaluations > 1 else nullcontext():
            value = closure()
        if isinstance(value, Tensor) and fit.stepper.averaging is None:
            value = value.detach().clone()
            fit.ranks.average([value])
        return value

    def after_batch(self) -> None:
        """Within an accumulation window, move the parameters to the optimizer's evaluation point.

        Raises:
            NonFiniteGradientError: if a row was due, and a gradient was not finite.
        """
        if self._failure is not None:
            raise self._failure
        if not self._stepped:
            self.fit.stepper.optimizer_eval()
        self._stepped = False

    def after_epoch(self) -> None:
        """Raise if a gradient was not finite, and write the epoch's mean loss."""
        self.settle()
        self.fit.write_epoch()

    def settle(self) -> None:
        """Move the parameters to where they are evaluated and saved, equal on every rank, or raise."""
        stepper = self.fit.stepper
        stepper.raise_if_nonfinite(self.fit.trainer.current_epoch)
        if stepper.averaging is not None:
            stepper.averaging.now()
        stepper.optimizer_eval()

    def end(self) -> None:
        """End the fit: parameters get memory of their own again."""
        self._run_ahead = None
        self.fit.end()
