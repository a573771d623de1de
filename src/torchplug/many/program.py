"""Many models trained as one program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor

from torchplug import interruption
from torchplug.chain import stages_of
from torchplug.component import Capability, Outcome
from torchplug.many.folds import FoldBatch, FoldTables
from torchplug.many.gradients import ChainGradients, FunctionalGradients, LinearGradients, StackGradients
from torchplug.many.losses import StackedLoss
from torchplug.many.members import Members, components_of, plain_settings
from torchplug.many.penalties import StackedPenalty, is_elementwise
from torchplug.many.stack import Layout
from torchplug.many.stopping import EarlyStops
from torchplug.many.updates import FormulaUpdate, RowUpdate, StackUpdate, row_tensors

_ROWS_FROM = 4096
"""Parameters of a model from which a fused kernel for each beats unfused ones for all."""


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
        advanced: is told after each step that it was made.
    """

    epochs: int
    device: torch.device
    dtype: torch.dtype
    clip: float | None = None
    clip_by_norm: bool = True
    early_stopping: Sequence[EarlyStopping] = ()
    advanced: Callable[[], None] = lambda: None


@dataclass
class Trained:
    """What became of one model.

    Args:
        parameters: by name.
        buffers: by name.
        metrics: of the last epoch that it trained in.
        epochs: how many it trained in.
        outcome: how its training ended.
    """

    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    metrics: dict[str, float]
    epochs: int
    outcome: Outcome


@dataclass
class _Ends:
    """Which models still train, and why the others do not."""

    active: Tensor
    epochs: list[int]
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def end(self, model: int, outcome: Outcome) -> None:
        """One trains no more."""
        self.active[model] = False
        self.outcomes.setdefault(model, outcome)


class Program:
    """K models of one structure, trained together.

    Each step is that of every model's own fit on its own fold's batch. A model that stops, or whose numbers are not
    finite, stands still from there on, and the others go on.

    Args:
        members: the models.
        plan: how they train.
    """

    def __init__(self, members: Members, plan: Plan) -> None:
        self._members = members
        self._plan = plan
        configurations, folds = members.each(), members.folds
        starts = members.starts()
        objective = members.objective(members.configurations[0])
        like = torch.empty(0, dtype=plan.dtype, device=plan.device)
        stages = stages_of(members.network)
        by_formula = self._takes_formula(objective)
        linear = stages is not None and len(stages) == 1 and stages[0].activation is None and by_formula
        self._layout = Layout(
            {name: p.shape for name, p in members.network.named_parameters()},
            bias_column=stages is not None and linear and stages[0].bias is not None,
        )
        self._values = self._layout.rows([start.parameters for start in starts], like)
        self._gradient = torch.zeros_like(self._values)
        self._penalties = [
            StackedPenalty([c.regularizers[i] for c in configurations], list(named), like)
            for i, (_, named) in enumerate(objective.penalties)
        ]
        loss = StackedLoss([c.loss for c in configurations if c.loss is not None], like)
        options = (self._layout, loss, len(folds), members.configurations[0].reduction == "mean")
        self._gradients: StackGradients
        if linear:
            self._gradients = LinearGradients(*options)
        elif stages is not None:
            rates = [start.dropout for start in starts]
            generators = [start.generator for start in starts]
            self._gradients = ChainGradients(stages, rates if any(rates) else None, generators, *options)
        else:
            self._gradients = FunctionalGradients(members.network.to(plan.device), len(members), *options)
        self._tables = self._tables_of("train")
        self._validation = self._tables_of("validation") if all(d.sizes["validation"] for d in folds) else None
        self._optimizers, self._update = self._make_update(by_formula)
        self._schedulers: dict[str, list[tuple[int, Any]]] = {"step": [], "epoch": []}
        self._make_schedulers()
        self._stops = [EarlyStops(callback, len(members)) for callback in plan.early_stopping]
        self._ends = _Ends(torch.ones(len(members), dtype=torch.bool), [0] * len(members))
        self._metrics: list[dict[str, float]] = [{} for _ in range(len(members))]
        self._step = 0  # of the epoch under way, from 1

    # ------------------------------------------------------------------ before the first step

    def _takes_formula(self, objective: Any) -> bool:
        resolved = components_of(self._members.configurations[0])
        elementwise = Capability.ELEMENTWISE in resolved.optimizer.capabilities and hasattr(
            resolved.optimizer.target, "update_fn"
        )
        rows = sum(p.numel() for p in self._members.network.parameters())
        prox = [r for r, _ in objective.penalties if r.proximal]
        return elementwise and rows < _ROWS_FROM and all(is_elementwise(r) for r in prox)

    def _tables_of(self, part: str) -> FoldTables:
        loaders: list[Any] = [
            data.train_dataloader() if part == "train" else data.val_dataloader() for data in self._members.folds
        ]
        return FoldTables(loaders, self._plan.device, with_ones=self._layout.bias_column)

    def _make_update(self, by_formula: bool) -> tuple[list[Any], StackUpdate]:
        """The optimizers, one per model or shared by the models of a configuration that has no schedule."""
        members, groups = self._members, self._members.groups()
        names = [[name for name, _ in group["params"]] for group in groups]
        if by_formula:
            shared: dict[int, Any] = {}
            optimizers = []
            for configuration in members.each():
                scheduled = components_of(configuration).scheduler is not None
                if scheduled or id(configuration) not in shared:
                    built = members.optimizer(configuration, groups, members.objective(configuration))
                    shared[id(configuration)] = built
                optimizers.append(shared[id(configuration)])
            if all(plain_settings(o) == plain_settings(optimizers[0]) for o in set(optimizers)):
                update = FormulaUpdate(optimizers, names, self._layout, self._values, self._penalties)
                return optimizers, update
        optimizers = []
        for model, configuration in enumerate(members.each()):
            objective, resolved = members.objective(configuration), components_of(configuration)
            flat = resolved.takes_flat(objective)
            rows = row_tensors(self._layout, self._values, self._gradient, model, names, flat)
            own = [{**group, "params": row} for group, row in zip(groups, rows, strict=True)]
            optimizer = members.optimizer(configuration, own, objective)
            by_name = {name: tensor for row in rows for name, tensor in row}
            proximal = [(r, named) for r, named in objective.penalties if r.proximal]
            if proximal:
                optimizer.prox = {by_name[name]: r.prox for r, named in proximal for name in named}
            optimizers.append(optimizer)
        return optimizers, RowUpdate(optimizers, self._values, self._gradient)

    def _make_schedulers(self) -> None:
        for model, configuration in enumerate(self._members.each()):
            resolved = components_of(configuration)
            if resolved.scheduler is None or not resolved.takes_learning_rate:
                continue
            steps = self._tables.steps[model // len(self._members.configurations)]
            optimizer = self._optimizers[model]
            optimizer._opt_called = True  # or torch warns of schedules that step before an optimizer's `step`
            scheduler = resolved.build_scheduler(optimizer, self._plan.epochs * steps, steps)
            self._schedulers[getattr(scheduler, "interval", "epoch")].append((model, scheduler))
        self._update.read_settings()

    # ------------------------------------------------------------------ training

    @torch.no_grad()
    def fit(self) -> list[Trained]:
        """Train until every model has ended, or an interruption is asked for; what became of each, (K,)."""
        for epoch in range(self._plan.epochs):
            if not self._train_epoch(epoch):
                break
            self._end_epoch(epoch)
            if not bool(self._ends.active.any()):
                break
        return [self._trained(model) for model in range(len(self._members))]

    def _train_epoch(self, epoch: int) -> bool:
        """One epoch; False if it was interrupted."""
        totals = torch.zeros(len(self._values), dtype=torch.float64, device=self._plan.device)
        self._step = 0
        for batch in self._tables.epoch(epoch):
            if interruption.requested():
                return False
            self._make_step(batch, totals, epoch)
            self._plan.advanced()
        losses = (totals / self._per_model(self._tables.sizes)).tolist()
        for model in self._going():
            self._metrics[model] = {"train/epoch_loss": losses[model]}
            self._ends.epochs[model] = epoch + 1
        return True

    def _make_step(self, batch: FoldBatch, totals: Tensor, epoch: int) -> None:
        self._step += 1
        points = self._update.points()
        sums = self._gradients.write(points, batch, self._gradient)
        views, gradients = self._layout.views(points), self._layout.views(self._gradient)
        for penalty in self._penalties:
            if not penalty.proximal:
                penalty.add_gradient(views, gradients)
        self._stop_unsound(self._gradient, "gradient", epoch)
        moves = self._moving(batch)
        totals.add_(sums if moves is None else torch.where(moves, sums, 0.0))
        if self._plan.clip is not None:
            self._clip(self._plan.clip)
        before = self._values.clone()
        self._update.apply(self._gradient, moves)
        unsound = self._stop_unsound(self._values, "update", epoch)
        if unsound is not None:
            self._values.copy_(torch.where(unsound.unsqueeze(1), before, self._values))
        self._step_schedulers("step", moves)

    def _moving(self, batch: FoldBatch) -> Tensor | None:
        """Which models make this step, (K,); None: all."""
        each = len(self._members.configurations)
        active = self._ends.active
        if min(batch.samples) == 0:
            there = torch.tensor([count > 0 for count in batch.samples]).repeat_interleave(each)
            active = active & there
        return None if bool(active.all()) else active.to(self._plan.device)

    def _stop_unsound(self, tensor: Tensor, what: str, epoch: int) -> Tensor | None:
        """End the models whose rows are not finite; which these are, (K,), or None."""
        flat = tensor.view(-1)
        if math.isfinite(torch.dot(flat, flat).item()):
            return None
        unsound = ~tensor.isfinite().all(1)
        for model in unsound.nonzero().flatten().tolist():
            step = epoch * self._tables.steps[model // len(self._members.configurations)] + self._step
            reason = f"the {what} is NaN or infinite at epoch {epoch}, step {step}; nothing was applied from there on"
            remedy = "lower the learning rate, clip gradients, or scale the data"
            self._ends.end(model, Outcome("stalled", reason, remedy))
        return unsound

    def _clip(self, limit: float) -> None:
        if not self._plan.clip_by_norm:
            self._gradient.clamp_(-limit, limit)
            return
        norms = torch.linalg.vector_norm(self._gradient, dim=1, keepdim=True)
        self._gradient.mul_((limit / (norms + 1e-6)).clamp(max=1.0))

    def _step_schedulers(self, interval: str, moves: Tensor | None = None) -> None:
        for model, scheduler in self._schedulers[interval]:
            if not self._ends.active[model] or (moves is not None and not moves[model]):
                continue
            monitor = getattr(scheduler, "monitor", None)
            if monitor is None:
                scheduler.step()
            elif monitor in self._metrics[model]:
                scheduler.step(self._metrics[model][monitor])
        if self._schedulers[interval]:
            self._update.read_settings()

    # ------------------------------------------------------------------ the end of an epoch

    def _end_epoch(self, epoch: int) -> None:
        going = self._going()
        if self._validation is not None:
            losses = self._validated(self._validation).tolist()
            for model in going:
                self._metrics[model]["val/loss"] = losses[model]
        self._step_schedulers("epoch")
        for stops in self._stops:
            metric = torch.tensor([own.get(stops.monitor, math.nan) for own in self._metrics], dtype=torch.float64)
            for model, reason in stops.stop(metric).items():
                if model in going:
                    self._ends.end(model, Outcome("limit", f"stopped after {epoch + 1} epochs: {reason}"))

    def _validated(self, tables: FoldTables) -> Tensor:
        totals = torch.zeros(len(self._values), dtype=torch.float64, device=self._plan.device)
        for batch in tables.epoch(0):
            totals += self._gradients.evaluate(self._values, batch)
        return totals / self._per_model(tables.sizes)

    def _per_model(self, sizes: Sequence[int]) -> Tensor:
        numbers = torch.tensor(sizes, dtype=torch.float64, device=self._plan.device)
        return numbers.repeat_interleave(len(self._members.configurations))

    def _going(self) -> list[int]:
        return self._ends.active.nonzero().flatten().tolist()

    def _trained(self, model: int) -> Trained:
        views = self._layout.views(self._values[model : model + 1])
        parameters = {name: view[0].cpu().clone() for name, view in views.items()}
        buffers = {name: b[model].cpu().clone() for name, b in getattr(self._gradients, "buffers", {}).items()}
        epochs = self._ends.epochs[model]
        if epochs >= self._plan.epochs:
            finished = Outcome("limit", f"the trainer's {epochs} epochs are done", "raise max_epochs to go on")
        else:
            finished = Outcome("limit", f"interrupted after {epochs} epochs", "fit again to train to the end")
        outcome = self._ends.outcomes.get(model, finished)
        return Trained(parameters, buffers, self._metrics[model], epochs, outcome)
