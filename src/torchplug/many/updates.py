"""The optimizer's part of a step for many models at once: one formula over all rows, or an optimizer on each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchplug.engine.train_step import gradient_point, numeric_settings, updated
from torchplug.many.penalties import StackedPenalty
from torchplug.many.stack import Layout, chosen


class StackUpdate(ABC):
    """Moves the rows of `values` (K, P), where models are evaluated, by gradients taken at `points`."""

    @abstractmethod
    def points(self) -> Tensor:
        """Where each model wants its gradient, (K, P)."""

    @abstractmethod
    def apply(self, gradient: Tensor, moves: Tensor | None) -> Tensor:
        """Move those models that are to move, or all; returns `values` as they are then.

        Args:
            gradient: (K, P).
            moves: (K,) bool; None: all.
        """

    @abstractmethod
    def keep(self, models: Sequence[int], values: Tensor, gradient: Tensor) -> None:
        """Forget all models but these, whose rows and gradients, (K, P), have moved."""

    @abstractmethod
    def read_settings(self) -> None:
        """Take up what schedules have changed."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """The optimizers' state and settings, for a checkpoint."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""


class FormulaUpdate(StackUpdate):
    """The optimizer's `formula` on all rows together, its settings tensors that broadcast against them.

    Args:
        optimizers: of each model, with its groups' settings; they step nothing themselves.
        groups: which names belong to each parameter group.
        layout: of the rows.
        values: (K, P).
        penalties: proximal ones among them are applied.
    """

    def __init__(
        self,
        optimizers: Sequence[Any],
        groups: Sequence[Sequence[str]],
        layout: Layout,
        values: Tensor,
        penalties: Sequence[StackedPenalty],
    ) -> None:
        self._optimizers = list(optimizers)
        self._rule = optimizers[0]
        self._groups = groups
        self._layout = layout
        self._values = values
        self._state = {
            name: own.expand(len(values), *own.shape[1:]).clone() if own.ndim else own.expand(len(values), 1).clone()
            for name, own in self._rule.init_state(values).items()
        }
        proximal = [penalty for penalty in penalties if penalty.proximal]
        self._prox = self._proximal(proximal) if proximal else None
        self._read: dict[str, Any] = {}
        self._settings: dict[str, Any] = {}
        self.read_settings()

    def points(self) -> Tensor:
        """The rows, or where the optimizer's `gradient_point` is."""
        return gradient_point(self._rule, self._values, self._state, self._settings)

    def apply(self, gradient: Tensor, moves: Tensor | None) -> Tensor:
        """One formula."""
        point, state = updated(self._rule, self._values, gradient, self._state, self._settings, self._prox)
        if moves is not None:
            point = chosen(moves, point, self._values)
            state = {name: chosen(moves, own, self._state[name]) for name, own in state.items()}
        self._state = state
        return self._values.copy_(point)

    def keep(self, models: Sequence[int], values: Tensor, gradient: Tensor) -> None:
        """State and settings of these."""
        self._values = values
        self._optimizers = [self._optimizers[model] for model in models]
        self._state = {name: own[list(models)] for name, own in self._state.items()}
        self._read.clear()
        self.read_settings()

    def state(self) -> dict[str, Any]:
        """State (K, …) by name, and the settings of each model's groups."""
        settings = {optimizer: _settings(optimizer) for optimizer in self._optimizers}
        return {"state": dict(self._state), "groups": [settings[optimizer] for optimizer in self._optimizers]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self._state = {name: own.to(self._values.device, copy=True) for name, own in state["state"].items()}
        for optimizer, saved in zip(self._optimizers, state["groups"], strict=True):
            for group, own in zip(optimizer.param_groups, saved, strict=True):
                group.update(own)
        self._read.clear()
        self.read_settings()

    def read_settings(self) -> None:
        """Settings as float64 tensors (K, 1), or (K, P) where groups of parameters differ."""
        for name in numeric_settings(self._rule):
            values = [[o.param_groups[g][name] for o in self._optimizers] for g in range(len(self._groups))]
            if values == self._read.get(name):
                continue
            self._read[name] = values
            if isinstance(self._rule.defaults[name], tuple | list):
                parts = range(len(self._rule.defaults[name]))
                self._settings[name] = tuple(
                    self._tensor([[value[part] for value in own] for own in values]) for part in parts
                )
            else:
                self._settings[name] = self._tensor(values)

    def _tensor(self, values: Sequence[Sequence[float]]) -> Tensor:
        first = torch.tensor(values[0], dtype=torch.float64, device=self._values.device).unsqueeze(1)
        if all(own == values[0] for own in values):
            return first
        whole = torch.empty(self._values.shape, dtype=torch.float64, device=self._values.device)
        views = self._layout.views(whole)
        for names, own in zip(self._groups, values, strict=True):
            for name in names:
                view = views[name]
                view.copy_(torch.tensor(own, dtype=torch.float64).view(-1, *[1] * (view.ndim - 1)))
        return whole

    def _proximal(self, penalties: Sequence[StackedPenalty]) -> Callable[[Tensor, Any], Tensor]:
        def prox(point: Tensor, step: Tensor) -> Tensor:
            target = point.clone()
            views, steps = self._layout.views(target), self._layout.views(step.to(point.dtype).expand(point.shape))
            for penalty in penalties:
                for name in penalty.names:
                    views[name].copy_(penalty.prox(views[name], steps[name]))
            return target

        return prox


class RowUpdate(StackUpdate):
    """An optimizer of its own on each row, with its fused kernel: for large rows, and for any optimizer.

    Args:
        optimizers: of each model, over views of its row whose `grad` are views of `gradient`.
        values: (K, P).
        gradient: (K, P), the only one that `apply` is given.
        declared: whether `update()` is declared to be the optimizers' step.
    """

    def __init__(self, optimizers: Sequence[Any], values: Tensor, gradient: Tensor, declared: bool) -> None:
        self._optimizers = list(optimizers)
        self._declared = declared
        self._values = values
        self._gradient = gradient
        self._switching = [optimizer for optimizer in optimizers if hasattr(optimizer, "train")]

    def keep(self, models: Sequence[int], values: Tensor, gradient: Tensor) -> None:
        """The optimizers of these, over the rows where they are now."""
        for row, model in enumerate(models):
            optimizer = self._optimizers[model]
            for group in optimizer.param_groups:
                group["params"] = [self._rebound(optimizer, old, values[row], gradient[row]) for old in group["params"]]
        self._optimizers = [self._optimizers[model] for model in models]
        self._switching = [optimizer for optimizer in self._optimizers if hasattr(optimizer, "train")]
        self._values, self._gradient = values, gradient

    def _rebound(self, optimizer: Any, old: Tensor, row: Tensor, gradient: Tensor) -> Tensor:
        """A view of a row where it is now, in the place of a view of where it was, with what is kept of it."""
        place = old.storage_offset() % self._values.shape[1]
        new = row.as_strided(old.shape, old.stride(), row.storage_offset() + place)
        new.grad = gradient.as_strided(old.shape, old.stride(), gradient.storage_offset() + place)
        optimizer.state[new] = optimizer.state.pop(old, {})
        prox = getattr(optimizer, "prox", {})
        if old in prox:
            prox[new] = prox.pop(old)
        return new

    def points(self) -> Tensor:
        """The rows, moved to where their optimizers want the gradient until `apply` is called."""
        for optimizer in self._switching:
            optimizer.train()
        return self._values

    def apply(self, gradient: Tensor, moves: Tensor | None) -> Tensor:
        """One update each."""
        assert gradient is self._gradient, "the optimizers' gradients lie there"
        going = [True] * len(self._optimizers) if moves is None else moves.tolist()
        for optimizer, goes in zip(self._optimizers, going, strict=True):
            if goes:
                (optimizer.update if self._declared else optimizer.step)()
        for optimizer in self._switching:
            optimizer.eval()
        return self._values

    def read_settings(self) -> None:
        """Nothing: schedules change the optimizers themselves."""

    def state(self) -> dict[str, Any]:
        """Each optimizer's."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def _settings(optimizer: Any) -> list[dict[str, Any]]:
    """The settings of an optimizer's groups, without the parameters."""
    return [{name: value for name, value in g.items() if name != "params"} for g in optimizer.param_groups]


def row_tensors(
    layout: Layout, values: Tensor, gradient: Tensor, model: int, groups: Sequence[Sequence[str]], flat: bool
) -> list[list[tuple[str, Tensor]]]:
    """What an optimizer sees of a row: for each group its parameters by name, or one tensor if it takes that.

    Args:
        layout: of the rows.
        values: (K, P).
        gradient: (K, P).
        model: which row.
        groups: the names in each parameter group.
        flat: whether the optimizer may see a group as one tensor.
    """
    if flat and len(groups) == 1:
        whole = values[model].detach()
        whole.grad = gradient[model]
        return [[(groups[0][0], whole)]]
    views = layout.views(values[model : model + 1])
    gradients = layout.views(gradient[model : model + 1])
    found = []
    for names in groups:
        members = [(name, views[name][0].detach()) for name in names]
        for name, member in members:
            member.grad = gradients[name][0]
        found.append(members)
    return found
