"""Training on some rows until a threshold is reached, or nothing is gained any more."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from torchplug import interruption
from torchplug.batch import Batch, Rows
from torchplug.checked_network import evaluating
from torchplug.components.contracts import Loss
from torchplug.interruption import Interrupted
from torchplug.objective import Objective, StepObjective
from torchplug.training.threads import threads_of_steps
from torchplug.workflow.ladder.problem import Problem

LOSS = 1e-2
"""Classes: all is learnt where the mean loss is less than this above the least one of these targets."""
R2 = 0.999
"""Numbers: R², relative to the variance of the whole training split, above which all is learnt."""
_CHECKS = 100
_PATIENCE = 30
_GAIN = 1e-3


@dataclass(frozen=True)
class Setting:
    """How a trial differs from the configuration.

    Args:
        penalties: whether penalties and weight decay act.
        dropout: whether dropout is on.
        rate: a factor of the learning rate.
        enough: the mean loss that must be reached in the end; None: training ends at the threshold.
        validates: whether the validation split is watched.
    """

    penalties: bool = False
    dropout: bool = False
    rate: float = 1.0
    enough: float | None = None
    validates: bool = False


@dataclass
class Trial:
    """What training on some rows has come to.

    Args:
        network: as it is at the end.
        loss_function: with its parameters.
        rows: what was trained on.
        threshold: for classes, the mean loss below which all is learnt.
        reached: whether the threshold is.
        loss: the mean loss at the end, without dropout.
        score: the accuracy, or R².
        steps: made.
        losses: of each step's batch.
        finite: whether losses and gradients were finite.
        gradients: the largest |gradient| of each parameter over all checks, by name; none for full-batch optimizers.
        best: the per-row losses on the validation split at the check where their mean was lowest.
    """

    network: nn.Module
    loss_function: Loss
    rows: Rows
    threshold: float
    reached: bool = False
    loss: float = math.nan
    score: float = math.nan
    steps: int = 0
    losses: list[float] = field(default_factory=list)
    finite: bool = True
    gradients: dict[str, float] = field(default_factory=dict)
    best: Tensor | None = None


def train(problem: Problem, rows: Rows, setting: Setting, limit: int | None = None) -> Trial:
    """Train the configuration's network on some rows, from its start.

    Args:
        problem: configuration and data.
        rows: n of them.
        setting: what differs from the configuration.
        limit: the most steps; None: those of the problem.

    Raises:
        Interrupted: if a signal has asked for the end.
    """
    threshold = LOSS + problem.least_loss(rows) if problem.has_classes else math.nan
    trial = Trial(problem.network(), copy.deepcopy(problem.loss), rows, threshold)
    threads = threads_of_steps(trial.network, min(problem.batch_size, len(rows.weight)), torch.device("cpu"))
    with threads, torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of dependent columns among few rows
        torch.manual_seed(problem.seed)
        _Training(problem, trial, setting, limit or problem.steps).run()
    return trial


class _Training:
    def __init__(self, problem: Problem, trial: Trial, setting: Setting, limit: int) -> None:
        self.problem, self.trial, self.setting, self.limit = problem, trial, setting, limit
        resolved = problem.module.resolved
        penalties = resolved.build_regularizers() if setting.penalties else []
        self.objective = StepObjective(trial.network, trial.loss_function, penalties, problem.module.reduction)
        groups = resolved.parameter_groups(trial.network, trial.loss_function)
        self.optimizer: Any = resolved.build_optimizer(groups, self.objective)
        for group in self.optimizer.param_groups:
            if "lr" in group:
                group["lr"] *= setting.rate
            if not setting.penalties and "weight_decay" in group:
                group["weight_decay"] = 0.0

    def run(self) -> None:
        every = max(1, self.limit // _CHECKS)
        lowest, since = math.inf, 0
        step = self._full_batch_step() if self.problem.module.resolved.is_full_batch else self._minibatch_step()
        for number in range(self.limit):
            if interruption.requested():
                raise Interrupted
            going = step()
            self.trial.steps = number + 1
            if going and (number + 1) % every and number + 1 < self.limit:
                continue
            self._check()
            if not going or not self.trial.finite or (self.trial.reached and self.setting.enough is None):
                return
            since = 0 if self.trial.loss < lowest - _GAIN * abs(lowest) or lowest == math.inf else since + 1
            lowest = min(lowest, self.trial.loss)
            if since >= _PATIENCE:
                return

    # ------------------------------------------------------------------ steps

    def _full_batch_step(self) -> Callable[[], bool]:
        penalties = [regularizer for regularizer, _ in self.objective.penalties]
        objective = Objective(
            self.trial.network,
            self.trial.loss_function,
            penalties,
            InMemory(self.trial.rows),
            self.problem.module.reduction,
        )

        def step() -> bool:
            self.optimizer.step(objective=objective)
            self.trial.losses.append(objective.loss_value())
            return self.optimizer.outcome is None

        return step

    def _minibatch_step(self) -> Callable[[], bool]:
        batches = self._batches()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

        def step() -> bool:
            batch = next(batches)
            self._set_modes(len(batch.weight))
            self.optimizer.zero_grad()
            value, weighted = self.objective.scaled_loss(batch, 1, 1)
            if value.requires_grad:
                value.backward()  # type: ignore[no-untyped-call]
            self.trial.losses.append(float(weighted) / batch.samples)
            self._note_gradients()
            if not self.trial.finite:
                return False
            if self.problem.clip:
                clip = nn.utils.clip_grad_norm_ if self.problem.clip_by_norm else nn.utils.clip_grad_value_
                clip(parameters, self.problem.clip)
            self.optimizer.step()
            return True

        return step

    def _batches(self) -> Iterator[Batch]:
        """Batches without end, each epoch in another order."""
        rows, size = self.trial.rows, self.problem.batch_size
        generator = torch.Generator().manual_seed(self.problem.seed)
        n = len(rows.weight)
        while True:
            order = torch.randperm(n, generator=generator) if size < n else torch.arange(n)
            for start in range(0, n, size):
                index = order[start : start + size]
                yield Batch(rows.features[index], rows.target[index], rows.weight[index], len(index))

    def _set_modes(self, rows: int) -> None:
        """Training mode, with dropout as it is set, and batch normalization over at least two rows."""
        self.trial.network.train()
        for layer in self.trial.network.modules():
            off = isinstance(layer, nn.modules.dropout._DropoutNd) and not self.setting.dropout
            if off or (isinstance(layer, nn.modules.batchnorm._BatchNorm) and rows < 2):
                layer.eval()
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()

    def _note_gradients(self) -> None:
        trial = self.trial
        finite = math.isfinite(trial.losses[-1])
        for name, parameter in trial.network.named_parameters():
            if parameter.requires_grad:
                largest = 0.0 if parameter.grad is None else float(parameter.grad.abs().max())
                finite = finite and math.isfinite(largest)
                trial.gradients[name] = max(trial.gradients.get(name, 0.0), largest)
        trial.finite = finite

    # ------------------------------------------------------------------ checks

    def _check(self) -> None:
        if hasattr(self.optimizer, "eval"):
            self.optimizer.eval()
        trial, problem = self.trial, self.problem
        with evaluating(trial.network):
            for layer in trial.network.modules():  # which has the statistics of these rows while it trains
                if isinstance(layer, nn.modules.batchnorm._BatchNorm) and len(trial.rows.weight) > 1:
                    layer.train()
            scores = trial.network(trial.rows.features)
            trial.network.eval()
            trial.loss = float((trial.loss_function(scores, trial.rows.target) * trial.rows.weight).double().mean())
            trial.score = score(problem, scores, trial.rows.target)
            trial.finite = trial.finite and math.isfinite(trial.loss)
            learnt = trial.score == 1.0 and trial.loss < trial.threshold if problem.has_classes else trial.score > R2
            trial.reached = learnt if self.setting.enough is None else trial.loss <= self.setting.enough
            if problem.validation is not None and self.setting.validates:
                held_out = problem.validation
                losses = trial.loss_function(trial.network(held_out.features), held_out.target) * held_out.weight
                if trial.best is None or bool(losses.mean() < trial.best.mean()):
                    trial.best = losses.double()


def score(problem: Problem, scores: Tensor, target: Tensor) -> float:
    """The accuracy; for numbers R², relative to the variance of the whole training split."""
    loss = problem.loss
    predictions = loss.point(loss.link(scores.double()))
    if problem.has_classes:
        assert loss.task.label is not None, "it has classes"
        true = target if target.ndim == 1 else target.squeeze(1).round() if target.shape[1] == 1 else target.argmax(1)
        return float((loss.task.label(predictions) == true.long()).double().mean())
    spread = problem.spread().sum()
    error = ((predictions - target.double()) ** 2).mean(dim=0).sum()
    return float(1 - error / spread) if spread > 0 else float(error < 1e-6)


class InMemory:
    """Rows as a training set for full-batch optimizers."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.samples = len(rows.weight)

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`, in float64."""
        rows: Mapping[str, Any] = self._rows._asdict()
        target = rows["target"][start:stop]
        target = target.double() if target.is_floating_point() else target
        return Rows(rows["features"][start:stop].double(), target, rows["weight"][start:stop].double())
