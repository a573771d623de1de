"""Many models trained as one program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from torchplug import interruption
from torchplug.many.folds import FoldBatch, FoldTables
from torchplug.many.members import Members
from torchplug.many.schedules import Schedules
from torchplug.many.stacked import StackedModels
from torchplug.many.stopping import EarlyStops
from torchplug.registry.component import Outcome


@dataclass(frozen=True)
class Plan:
    """How a program trains.

    Args:
        epochs: at most.
        device: where.
        dtype: of parameters and features.
        clip: bounds each model's gradient: a norm, or a magnitude.
        clip_by_norm: which of these.
        early_stopping: callbacks whose settings hold for each model.
        advanced: is called after each step.
    """

    epochs: int
    device: torch.device
    dtype: torch.dtype
    clip: float | None = None
    clip_by_norm: bool = True
    early_stopping: Sequence[EarlyStopping] = ()
    advanced: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Trained:
    """What became of one model.

    Args:
        state: parameters and buffers by name.
        metrics: of the last epoch that it trained in.
        outcome: how its training ended.
    """

    state: dict[str, Tensor]
    metrics: dict[str, float]
    outcome: Outcome


class _Progress:
    """How far each model has come, and which still train.

    Args:
        models: K.
    """

    def __init__(self, models: int) -> None:
        self.active = torch.ones(models, dtype=torch.bool)
        self.epochs = [0] * models
        self.metrics: list[dict[str, float]] = [{} for _ in range(models)]
        self.outcomes: dict[int, Outcome] = {}

    def going(self) -> list[int]:
        """The models that still train."""
        found: list[int] = self.active.nonzero().flatten().tolist()
        return found

    def end(self, model: int, outcome: Outcome) -> None:
        """One trains no more."""
        self.active[model] = False
        self.outcomes.setdefault(model, outcome)

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        self.active = self.active[list(models)]
        self.epochs = [self.epochs[model] for model in models]
        self.metrics = [self.metrics[model] for model in models]
        self.outcomes = {i: self.outcomes[model] for i, model in enumerate(models) if model in self.outcomes}

    def outcome(self, model: int, planned: int) -> Outcome:
        """How one ended, of so many planned epochs."""
        if model in self.outcomes:
            return self.outcomes[model]
        epochs = self.epochs[model]
        if epochs >= planned:
            return Outcome("limit", f"the trainer's {epochs} epochs are done", "raise max_epochs to go on")
        return Outcome("limit", f"interrupted after {epochs} epochs", "fit again to train to the end")


class Program:
    """K models of one structure, trained together.

    Each step is that of every model's own fit on its own fold's batch. A model that stops, or whose numbers are not
    finite, stands still from there on, and the others go on.

    Args:
        members: the models.
        plan: how they train.
    """

    def __init__(self, members: Members, plan: Plan) -> None:
        self._plan = plan
        self._each = len(members.configurations)
        self._models = StackedModels(members, plan.dtype, plan.device)
        ones = self._models.layout.bias_column
        training: list[Any] = [data.train_dataloader() for data in members.folds]
        self._tables = FoldTables(training, plan.device, ones)
        self._validation: FoldTables | None = None
        if all(data.sizes["validation"] for data in members.folds):
            validation: list[Any] = [data.val_dataloader() for data in members.folds]
            self._validation = FoldTables(validation, plan.device, ones)
        models = self._models
        self._schedules = Schedules(
            members, models.optimizers, plan.epochs, self._tables.steps, models.update.read_settings
        )
        self._stops = [EarlyStops(callback, len(members)) for callback in plan.early_stopping]
        self._progress = _Progress(len(members))
        self._numbers = list(range(len(members)))
        self._done: dict[int, Trained] = {}

    @torch.no_grad()
    def fit(self) -> list[Trained]:
        """Train until every model has ended, or an interruption is asked for; what became of each, (K,)."""
        for epoch in range(self._plan.epochs):
            if not self._progress.going() or not self._train_epoch(epoch):
                break
            self._end_epoch(epoch)
            self._compact()
        found = self._done | {number: self._trained(model) for model, number in enumerate(self._numbers)}
        return [found[number] for number in sorted(found)]

    def _trained(self, model: int) -> Trained:
        progress = self._progress
        outcome = progress.outcome(model, self._plan.epochs)
        return Trained(self._models.parameters(model), progress.metrics[model], outcome)

    def _compact(self) -> None:
        """Drop the configurations that have ended in every fold, once they are half: what is left is a grid again."""
        progress = self._progress
        going = progress.active.view(-1, self._each).any(0).tolist()
        if not 0 < sum(going) <= self._each // 2:
            return
        kept = [model for model in range(len(self._numbers)) if going[model % self._each]]
        for model in set(range(len(self._numbers))) - set(kept):
            self._done[self._numbers[model]] = self._trained(model)
        self._numbers, self._each = [self._numbers[model] for model in kept], sum(going)
        parts: list[Any] = [self._models, self._schedules, progress, *self._stops]
        for part in parts:
            part.keep(kept)

    def _train_epoch(self, epoch: int) -> bool:
        """One epoch; False if it was interrupted."""
        progress = self._progress
        totals = torch.zeros(len(progress.epochs), dtype=torch.float64, device=self._plan.device)
        for number, batch in enumerate(self._tables.epoch(epoch), start=1):
            if interruption.requested():
                return False
            self._make_step(batch, totals, epoch, number)
            self._plan.advanced()
        losses = (totals / self._per_model(self._tables.sizes)).tolist()
        for model in progress.going():
            progress.metrics[model] = {"train/epoch_loss": losses[model]}
            progress.epochs[model] = epoch + 1
        return True

    def _make_step(self, batch: FoldBatch, totals: Tensor, epoch: int, number: int) -> None:
        sums, unsound = self._models.differentiate(batch)
        self._end_unsound(unsound, "gradient", epoch, number)
        moving = self._moving(batch)
        moves = None if bool(moving.all()) else moving.to(self._plan.device)
        totals.add_(sums if moves is None else torch.where(moves, sums, 0.0))
        if self._plan.clip is not None:
            self._models.clip(self._plan.clip, self._plan.clip_by_norm)
        self._end_unsound(self._models.move(moves), "update", epoch, number)
        self._schedules.step("step", lambda model: bool(moving[model]), self._progress.metrics)

    def _moving(self, batch: FoldBatch) -> Tensor:
        """Which models make this step, (K,)."""
        active = self._progress.active
        if min(batch.samples) > 0:
            return active
        return active & torch.tensor([count > 0 for count in batch.samples]).repeat_interleave(self._each)

    def _end_unsound(self, unsound: Tensor | None, what: str, epoch: int, number: int) -> None:
        for model in [] if unsound is None else unsound.nonzero().flatten().tolist():
            step = epoch * self._tables.steps[model // self._each] + number
            reason = f"the {what} is NaN or infinite at epoch {epoch}, step {step}; nothing was applied from there on"
            remedy = "lower the learning rate, clip gradients, or scale the data"
            self._progress.end(model, Outcome("stalled", reason, remedy))

    def _end_epoch(self, epoch: int) -> None:
        """Validate, step the schedules that count epochs, and stop those that do not improve."""
        progress, going = self._progress, self._progress.going()
        if self._validation is not None:
            losses = self._validated(self._validation)
            for model in going:
                progress.metrics[model]["val/loss"] = losses[model]
        self._schedules.step("epoch", lambda model: bool(progress.active[model]), progress.metrics)
        for stops in self._stops:
            metric = torch.tensor([own.get(stops.monitor, math.nan) for own in progress.metrics], dtype=torch.float64)
            for model, reason in stops.stop(metric).items():
                if model in going:
                    progress.end(model, Outcome("limit", f"stopped after {epoch + 1} epochs: {reason}"))

    def _validated(self, tables: FoldTables) -> list[float]:
        totals = torch.zeros(len(self._progress.epochs), dtype=torch.float64, device=self._plan.device)
        for batch in tables.epoch(0):
            totals += self._models.evaluate(batch)
        losses: list[float] = (totals / self._per_model(tables.sizes)).tolist()
        return losses

    def _per_model(self, sizes: Sequence[int]) -> Tensor:
        numbers = torch.tensor(sizes, dtype=torch.float64, device=self._plan.device)
        return numbers.repeat_interleave(self._each)
