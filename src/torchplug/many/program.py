"""Many models trained as one program."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from torchplug import interruption
from torchplug.many.best_epochs import BestEpochs
from torchplug.many.folds import FoldBatch, FoldTables
from torchplug.many.members import Members
from torchplug.many.progress import Progress
from torchplug.many.schedules import Schedules
from torchplug.many.stacked import StackedModels
from torchplug.many.stopping import EarlyStops
from torchplug.registry.component import Outcome

EpochWatch = Callable[[int, Sequence[int], Mapping[str, Tensor]], Tensor]
"""Called after each epoch with its number, the k models that trained in it and their metrics, (k,) by name; returns
which of them go on, (k,) bool."""
State = dict[str, Any]
"""Of a program: plain types and tensors."""


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
        keeps_best: whether each model ends with the parameters of its best epoch, where there is a validation split.
        advanced: is called after each step.
        save: is called after each step and each epoch, with what gives the program's state.
        watch: sees each epoch's metrics, and may end models.
        remedy: how to go on after an interruption.
    """

    epochs: int
    device: torch.device
    dtype: torch.dtype
    clip: float | None = None
    clip_by_norm: bool = True
    early_stopping: Sequence[EarlyStopping] = ()
    keeps_best: bool = False
    advanced: Callable[[], None] = lambda: None
    save: Callable[[Callable[[], State]], None] = lambda state: None
    watch: EpochWatch | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Trained:
    """What became of one model.

    Args:
        state: parameters and buffers by name, of the last step or of the best epoch.
        metrics: of the last epoch that it trained in, or of the best one.
        outcome: how its training ended.
        epochs: how many whole ones it has behind it.
        ended: whether it has; False where it was interrupted.
    """

    state: dict[str, Tensor]
    metrics: dict[str, float]
    outcome: Outcome
    epochs: int
    ended: bool


@dataclass(frozen=True)
class _Group:
    """Models of the program, and what has become of them.

    Args:
        numbers: which of the K.
        parameters: and buffers, (k, …) by name.
        progress: theirs.
        best: their best epochs; None where these are not kept.
    """

    numbers: list[int]
    parameters: Mapping[str, Tensor]
    progress: Progress
    best: BestEpochs | None = None

    def trained(self, plan: Plan) -> Iterator[tuple[int, Trained]]:
        """Each model's number, and what became of it by this plan."""
        stored, progress = {name: own.cpu() for name, own in self.parameters.items()}, self.progress
        for place, number in enumerate(self.numbers):
            state, metrics = {name: own[place] for name, own in stored.items()}, progress.metrics_of(place)
            if self.best is not None and self.best.has(place):
                state, metrics = self.best.parameters_of(place), self.best.metrics_of(place)
            epochs = int(progress.epochs[place])
            ended = place in progress.outcomes or epochs >= plan.epochs
            outcome = progress.outcome(place, plan.epochs, plan.remedy)
            yield number, Trained(state, metrics, outcome, epochs, ended)

    def state(self) -> State:
        """For a checkpoint."""
        return {
            "numbers": list(self.numbers),
            "parameters": {name: own.cpu() for name, own in self.parameters.items()},
            "progress": self.progress.state(),
            "best": None if self.best is None else self.best.state(),
        }

    @classmethod
    def of(cls, state: State) -> _Group:
        """What `state` described."""
        progress = Progress(len(state["numbers"]))
        progress.load(state["progress"])
        best = None
        if state.get("best") is not None:
            best = BestEpochs(len(state["numbers"]))
            best.load(state["best"], torch.device("cpu"))
        return cls(list(state["numbers"]), state["parameters"], progress, best)


class Program:
    """K models of one structure, trained together.

    Each step is that of every model's own fit on its own fold's batch. A model that stops, or whose numbers are not
    finite, stands still from there on, and the others go on.

    Args:
        members: the models.
        plan: how they train.
        state: of such a program, from which training goes on bit for bit.
    """

    def __init__(self, members: Members, plan: Plan, state: State | None = None) -> None:
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
        self._best = BestEpochs(len(members)) if plan.keeps_best and self._validation is not None else None
        self._progress = Progress(len(members))
        self._numbers = list(range(len(members)))
        self._ended: list[_Group] = []
        self._epoch = self._step = 0
        self._totals = self._zeros()
        if state is not None:
            self._load(state)

    @torch.no_grad()
    def fit(self) -> list[Trained]:
        """Train until every model has ended, or an interruption is asked for; what became of each, (K,)."""
        while self._epoch < self._plan.epochs and self._progress.going() and self._train_epoch():
            self._end_epoch()
            self._compact()
            self._epoch, self._step, self._totals = self._epoch + 1, 0, self._zeros()
            self._plan.save(self.state)
        found = {number: own for group in self._groups() for number, own in group.trained(self._plan)}
        return [found[number] for number in sorted(found)]

    @property
    def steps(self) -> int:
        """How many steps of the longest fold are made."""
        return self._epoch * max(self._tables.steps) + self._step

    def state(self) -> State:
        """All that the rest of training depends on; its tensors are the program's own."""
        return {
            "groups": [group.state() for group in self._groups()],
            "position": [self._epoch, self._step],
            "totals": self._totals.cpu(),
            "models": self._models.state(),
            "schedules": self._schedules.state(),
            "stops": [stops.state() for stops in self._stops],
        }

    def _load(self, state: State) -> None:
        *self._ended, live = [_Group.of(group) for group in state["groups"]]
        if len(live.numbers) < len(self._numbers):
            self._keep(live.numbers)
        self._progress.load(live.progress.state())
        if self._best is not None and live.best is not None:
            self._best.load(live.best.state(), self._plan.device)
        self._models.load(live.parameters, state["models"])
        self._schedules.load(state["schedules"])
        for stops, saved in zip(self._stops, state["stops"], strict=True):
            stops.load(saved)
        self._epoch, self._step = state["position"]
        self._totals = state["totals"].to(self._plan.device, copy=True)

    def _groups(self) -> list[_Group]:
        """All models: those that have been left out, and those that are in the program."""
        return [*self._ended, _Group(self._numbers, self._models.parameters(), self._progress, self._best)]

    def _compact(self) -> None:
        """Drop the configurations that have ended in every fold, once they are half: what is left is a grid again."""
        going = self._progress.active.view(-1, self._each).any(0).tolist()
        if not 0 < sum(going) <= self._each // 2:
            return
        models = range(len(self._numbers))
        ended = [model for model in models if not going[model % self._each]]
        progress, best = copy.copy(self._progress), copy.copy(self._best)
        progress.keep(ended)
        if best is not None:
            best.keep(ended)
        parameters = {name: own[ended] for name, own in self._models.parameters().items()}
        self._ended.append(_Group([self._numbers[model] for model in ended], parameters, progress, best))
        self._keep([model for model in models if going[model % self._each]])

    def _keep(self, models: list[int]) -> None:
        """Forget all models but these."""
        self._each = self._each * len(models) // len(self._numbers)
        self._numbers = [self._numbers[model] for model in models]
        best = [] if self._best is None else [self._best]
        parts: list[Any] = [self._models, self._schedules, self._progress, *self._stops, *best]
        for part in parts:
            part.keep(models)

    def _zeros(self) -> Tensor:
        return torch.zeros(len(self._numbers), dtype=torch.float64, device=self._plan.device)

    def _train_epoch(self) -> bool:
        """What is left of an epoch; False if it was interrupted."""
        progress = self._progress
        self._models.anneal(self._epoch / self._plan.epochs)
        for batch in self._tables.epoch(self._epoch, self._step):
            if interruption.requested():
                return False
            self._step += 1
            self._make_step(batch)
            self._plan.advanced()
            self._plan.save(self.state)
        progress.note("train/epoch_loss", self._totals / self._per_model(self._tables.sizes), progress.active)
        progress.epochs[progress.active] = self._epoch + 1
        return True

    def _make_step(self, batch: FoldBatch) -> None:
        sums, unsound = self._models.differentiate(batch)
        self._end_unsound(unsound, "gradient")
        moving = self._moving(batch)
        moves = None if bool(moving.all()) else moving.to(self._plan.device)
        self._totals.add_(sums if moves is None else torch.where(moves, sums, 0.0))
        if self._plan.clip is not None:
            self._models.clip(self._plan.clip, self._plan.clip_by_norm)
        self._end_unsound(self._models.move(moves), "update")
        self._schedules.step("step", lambda model: bool(moving[model]), self._progress.metrics)

    def _moving(self, batch: FoldBatch) -> Tensor:
        """Which models make this step, (K,)."""
        active = self._progress.active
        if min(batch.samples) > 0:
            return active
        return active & torch.tensor([count > 0 for count in batch.samples]).repeat_interleave(self._each)

    def _end_unsound(self, unsound: Tensor | None, what: str) -> None:
        for model in [] if unsound is None else unsound.nonzero().flatten().tolist():
            step = self._epoch * self._tables.steps[model // self._each] + self._step
            reason = f"the {what} is NaN or infinite at epoch {self._epoch}, step {step}"
            remedy = "lower the learning rate, clip gradients, or scale the data"
            self._progress.end(model, Outcome("stalled", f"{reason}; nothing was applied from there on", remedy))

    def _end_epoch(self) -> None:
        """Validate, step the schedules that count epochs, and stop those that do not improve."""
        progress = self._progress
        trained = progress.active.clone()
        if self._validation is not None:
            progress.note("val/loss", self._validated(self._validation), trained)
            if self._best is not None:
                self._best.note(trained, self._models.parameters(), progress.metrics)
        self._schedules.step("epoch", lambda model: bool(progress.active[model]), progress.metrics)
        if self._validation is not None:
            for model, reason in self._schedules.reasons_to_end(progress.metrics["val/loss"]).items():
                if trained[model]:
                    progress.end(model, Outcome("limit", f"training ended after {self._epoch + 1} epochs: {reason}"))
        for stops in self._stops:
            metric = torch.where(trained, progress.metrics[stops.monitor], math.nan)
            for model, reason in stops.stop(metric).items():
                if trained[model]:
                    progress.end(model, Outcome("limit", f"stopped after {self._epoch + 1} epochs: {reason}"))
        if self._plan.watch is not None and bool(trained.any()):
            self._ask(self._plan.watch, trained.nonzero().flatten())

    def _ask(self, watch: EpochWatch, models: Tensor) -> None:
        """Show the metrics of those that trained in the epoch, and end the ones that are not to go on."""
        metrics = {name: values[models] for name, values in self._progress.metrics.items()}
        keep = watch(self._epoch, [self._numbers[model] for model in models.tolist()], metrics)
        for model in models[~keep].tolist():
            self._progress.end(model, Outcome("limit", f"pruned after {self._epoch + 1} epochs"))

    def _validated(self, tables: FoldTables) -> Tensor:
        totals = self._zeros()
        for batch in tables.epoch(0):
            totals += self._models.evaluate(batch)
        return totals / self._per_model(tables.sizes)

    def _per_model(self, sizes: Sequence[int]) -> Tensor:
        numbers = torch.tensor(sizes, dtype=torch.float64, device=self._plan.device)
        return numbers.repeat_interleave(self._each)
