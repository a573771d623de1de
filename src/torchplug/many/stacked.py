"""K models as one matrix of parameters, and what a step of them is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchplug.chain import stages_of
from torchplug.many.folds import FoldBatch
from torchplug.many.gradients import ChainGradients, FunctionalGradients, LinearGradients, StackGradients
from torchplug.many.losses import StackedLoss
from torchplug.many.members import Members, components_of, plain_settings
from torchplug.many.penalties import StackedPenalty, is_elementwise
from torchplug.many.stack import Layout
from torchplug.many.updates import FormulaUpdate, RowUpdate, StackUpdate, row_tensors
from torchplug.registry.component import Capability

_ROWS_FROM = 4096
"""Parameters of a model from which a fused kernel for each beats unfused ones for all."""


class StackedModels:
    """The rows of K models, their gradients, and their optimizers.

    Args:
        members: the models.
        dtype: of parameters and features.
        device: where they are.

    Attributes:
        layout: where parameters lie in a row.
        optimizers: whose learning rates schedules change; of each model, (K,).
        update: moves the rows.
    """

    def __init__(self, members: Members, dtype: torch.dtype, device: torch.device) -> None:
        configurations, starts = members.each(), members.starts()
        objective = members.objective(members.configurations[0])
        like = torch.empty(0, dtype=dtype, device=device)
        stages = stages_of(members.network)
        by_formula = _takes_formula(members, objective)
        linear = stages is not None and len(stages) == 1 and stages[0].activation is None and by_formula
        self.layout = Layout(
            {name: p.shape for name, p in members.network.named_parameters()},
            bias_column=stages is not None and linear and stages[0].bias is not None,
        )
        self._values = self.layout.rows([start.parameters for start in starts], like)
        self._gradient = torch.zeros_like(self._values)
        self._penalties = [
            StackedPenalty([c.regularizers[i] for c in configurations], list(named), like)
            for i, (_, named) in enumerate(objective.penalties)
        ]
        loss = StackedLoss([c.loss for c in configurations if c.loss is not None], like)
        options = (self.layout, loss, len(members.folds), members.configurations[0].reduction == "mean")
        self._gradients: StackGradients
        if linear:
            self._gradients = LinearGradients(*options)
        elif stages is not None:
            rates = [start.dropout for start in starts]
            generators = [start.generator for start in starts]
            self._gradients = ChainGradients(stages, rates if any(rates) else None, generators, *options)
        else:
            self._gradients = FunctionalGradients(members.network.to(device), len(members), *options)
        self.optimizers, self.update = self._make_update(members, by_formula)

    def _make_update(self, members: Members, by_formula: bool) -> tuple[list[Any], StackUpdate]:
        """The optimizers; models of one configuration share theirs unless a schedule changes it."""
        groups = members.groups()
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
                return optimizers, FormulaUpdate(optimizers, names, self.layout, self._values, self._penalties)
        optimizers = []
        for model, configuration in enumerate(members.each()):
            objective = members.objective(configuration)
            flat = components_of(configuration).takes_flat(objective)
            rows = row_tensors(self.layout, self._values, self._gradient, model, names, flat)
            own = [{**group, "params": row} for group, row in zip(groups, rows, strict=True)]
            optimizer = members.optimizer(configuration, own, objective)
            by_name = {name: tensor for row in rows for name, tensor in row}
            proximal = [(r, named) for r, named in objective.penalties if r.proximal]
            if proximal:
                optimizer.prox = {by_name[name]: r.prox for r, named in proximal for name in named}
            optimizers.append(optimizer)
        return optimizers, RowUpdate(
            optimizers, self._values, self._gradient, components_of(members.configurations[0]).has_update
        )

    # ------------------------------------------------------------------ a step

    def anneal(self, passed: float) -> None:
        """Tell the networks which part of the run is over, in [0, 1], at the start of an epoch."""
        self._gradients.anneal(passed)

    def differentiate(self, batch: FoldBatch) -> tuple[Tensor, Tensor | None]:
        """Take ∇F; returns Σ wℓ of each model, (K,), and which gradients are not finite, (K,), or None."""
        points = self.update.points()
        sums = self._gradients.write(points, batch, self._gradient)
        views, gradients = self.layout.views(points), self.layout.views(self._gradient)
        for penalty in self._penalties:
            if not penalty.proximal:
                penalty.add_gradient(views, gradients)
        return sums, _unsound(self._gradient)

    def clip(self, limit: float, by_norm: bool) -> None:
        """Bound each model's gradient, by its norm or each of its elements."""
        if not by_norm:
            self._gradient.clamp_(-limit, limit)
            return
        norms = torch.linalg.vector_norm(self._gradient, dim=1, keepdim=True)
        self._gradient.mul_((limit / (norms + 1e-6)).clamp(max=1.0))

    def move(self, moves: Tensor | None) -> Tensor | None:
        """Move the models that are to move, or all; which could not, (K,), or None: they stand where they were."""
        before = self._values.clone()
        self._gradients.settle(moves)
        self.update.apply(self._gradient, moves)
        unsound = _unsound(self._values)
        if unsound is not None:
            self._values.copy_(torch.where(unsound.unsqueeze(1), before, self._values))
        return unsound

    # ------------------------------------------------------------------ what they are

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        self._values = self._values[list(models)]
        self._gradient = torch.zeros_like(self._values)
        self._gradients.keep(models)
        for penalty in self._penalties:
            penalty.keep(models)
        self.update.keep(models, self._values, self._gradient)

    def evaluate(self, batch: FoldBatch) -> Tensor:
        """Σ wℓ of each model, (K,), in float64, dropout off."""
        return self._gradients.evaluate(self._values, batch)

    def parameters(self) -> dict[str, Tensor]:
        """Parameters and buffers of all models, (K, …) by name: views of them where they are."""
        return self.layout.views(self._values) | self._gradients.buffers

    def state(self) -> dict[str, Any]:
        """What the next step depends on beside `parameters`, for a checkpoint."""
        return {"update": self.update.state(), "gradients": self._gradients.state()}

    def load(self, parameters: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore what `parameters` and `state` returned."""
        for name, view in self.layout.views(self._values).items():
            view.copy_(parameters[name])
        for buffer in self._gradients.buffers:
            self._gradients.buffers[buffer] = parameters[buffer].to(self._values.device, copy=True)
        self.update.load(state["update"])
        self._gradients.load(state["gradients"])


def _takes_formula(members: Members, objective: Any) -> bool:
    resolved = components_of(members.configurations[0])
    declared = resolved.optimizer.capabilities >= {Capability.ELEMENTWISE, Capability.UPDATE}
    elementwise = declared and hasattr(resolved.optimizer.target, "update_fn")
    width = sum(p.numel() for p in members.network.parameters())
    prox = [regularizer for regularizer, _ in objective.penalties if regularizer.proximal]
    return elementwise and width < _ROWS_FROM and all(is_elementwise(regularizer) for regularizer in prox)


def _unsound(rows: Tensor) -> Tensor | None:
    """Which rows are not finite, (K,); None where all are: a finite sum of squares proves it."""
    flat = rows.view(-1)
    return None if math.isfinite(torch.dot(flat, flat).item()) else ~rows.isfinite().all(1)
