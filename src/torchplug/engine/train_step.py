"""One optimizer step as a pure function of tensors: the definition that every executor agrees with to rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.func import grad_and_value

from torchplug.batch import Batch
from torchplug.objective import StepObjective
from torchplug.objective.function import ObjectiveFunction, numbers_of

State = dict[str, Tensor]
"""An optimizer's state of a parameter."""
Settings = Mapping[str, Any]
"""The numbers of a parameter group by name: float64 tensors, or tuples of them."""
Prox = Callable[[Tensor, Any], Tensor]
"""prox(parameter, step) of a regularizer."""


class UpdateRule(Protocol):
    """An optimizer whose update is also a pure function; one that applies prox has `prox_size` and `placed` as well."""

    defaults: dict[str, Any]
    param_groups: list[dict[str, Any]]
    state: Mapping[Tensor, State]

    def update(self) -> None:
        """Update parameters and state by the present gradients."""
        ...

    def init_state(self, parameter: Tensor) -> State:
        """Return a parameter's state before its first update."""
        ...

    def update_fn(self, parameter: Tensor, gradient: Tensor, state: State, settings: Settings) -> tuple[Tensor, State]:
        """Return the parameter and its state after an update, without side effects."""
        ...


class TrainState(NamedTuple):
    """The tensors that a step changes.

    Args:
        params: the trainable parameters by name, at the optimizer's evaluation point.
        buffers: the network's buffers by name.
        optimizer: the optimizer's state of each parameter, by its name.
    """

    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    optimizer: dict[str, State]


class Hyper(NamedTuple):
    """The numbers that may be scheduled, searched, or differ between models.

    Args:
        optimizer: the settings of each parameter, by its name.
        penalties: the numbers of each penalty that is not proximal.
        loss: the numbers of the loss.
    """

    optimizer: dict[str, Settings]
    penalties: tuple[dict[str, Tensor], ...]
    loss: dict[str, Tensor]


class StepMetrics(NamedTuple):
    """Metrics of a step's batch.

    Args:
        objective: F on the batch before the step, without proximal penalties.
        weighted: Σ wᵢ ℓᵢ before the step.
        gradient: ∇F by parameter.
    """

    objective: Tensor
    weighted: Tensor
    gradient: dict[str, Tensor]


class TrainStep:
    """`train_step(state, batch, hyper) -> (state, metrics)` for one network, loss, choice of penalties and optimizer.

    The constructor's arguments determine the structure; every number is an argument of the call, and none is modified.

    Args:
        objective: F on a minibatch.
        optimizer: the optimizer over the objective's parameters, not flattened; it has `update_fn`.
    """

    def __init__(self, objective: StepObjective, optimizer: UpdateRule) -> None:
        self._objective = objective
        self._optimizer = optimizer
        self._function = ObjectiveFunction(objective)
        self._prox = prox_by_name(objective)
        self._smooth = [regularizer for regularizer, _ in objective.penalties if not regularizer.proximal]

    def __call__(self, state: TrainState, batch: Batch, hyper: Hyper) -> tuple[TrainState, StepMetrics]:
        """Return the state after an optimizer step on a batch of a single rank and window, and the step's metrics."""
        rule = self._optimizer
        points = {
            name: gradient_point(rule, parameter, state.optimizer[name], hyper.optimizer[name])
            for name, parameter in state.params.items()
        }
        scale = 1.0 / batch.samples if self._objective.reduction == "mean" else 1.0

        def value(named: dict[str, Tensor]) -> Any:
            rows = (batch.features, batch.target, batch.weight)
            found = self._function(named, state.buffers, rows, scale, 1.0, hyper.loss, hyper.penalties)
            return found.value, found

        gradient, (objective, found) = grad_and_value(value, has_aux=True)(points)
        after = {
            name: updated(rule, p, gradient[name], state.optimizer[name], hyper.optimizer[name], self._prox.get(name))
            for name, p in state.params.items()
        }
        params = {name: parameter for name, (parameter, _) in after.items()}
        kept = {name: own for name, (_, own) in after.items()}
        return TrainState(params, found.buffers, kept), StepMetrics(objective, found.weighted, gradient)

    def state(self) -> TrainState:
        """Return a copy of the current state; the optimizer must be at its evaluation point."""
        named = self._named()
        buffers = {name: buffer.clone() for name, buffer in self._function.named_buffers()}
        kept = {}
        for name, parameter in named.items():
            fresh = self._optimizer.init_state(parameter.detach())
            own = self._optimizer.state.get(parameter, fresh)
            kept[name] = {key: own[key].clone() for key in fresh}
        return TrainState({name: p.detach().clone() for name, p in named.items()}, buffers, kept)

    def hyper(self) -> Hyper:
        """Return the current numbers of optimizer, penalties and loss, in float64."""
        groups = {id(p): group for group in self._optimizer.param_groups for p in group["params"]}
        settings: dict[str, Settings] = {
            name: settings_as_tensors(self._optimizer, groups[id(p)]) for name, p in self._named().items()
        }
        penalties = tuple(_tensors(numbers_of(regularizer)) for regularizer in self._smooth)
        return Hyper(settings, penalties, _tensors(numbers_of(self._objective.loss)))

    def _named(self) -> dict[str, Tensor]:
        return dict(zip(self._function.parameters, self._objective.parameters(), strict=True))


def gradient_point(rule: UpdateRule, parameter: Tensor, state: State, settings: Settings) -> Tensor:
    """Return the point of the gradient: the parameter, unless the optimizer has `gradient_point`."""
    if not hasattr(rule, "gradient_point"):
        return parameter
    point: Tensor = rule.gradient_point(parameter, state, settings)
    return point


def updated(
    rule: Any, parameter: Tensor, gradient: Tensor, state: State, settings: Settings, prox: Prox | None = None
) -> tuple[Tensor, State]:
    """Return a parameter and its state after an update, including the proximal operator.

    Args:
        rule: the optimizer.
        parameter: at the optimizer's evaluation point.
        gradient: at the optimizer's gradient point.
        state: the optimizer's state of the parameter.
        settings: the numbers of its group.
        prox: the proximal operator of its regularizer, if any.
    """
    point, after = rule.update_fn(parameter, gradient, state, settings)
    if prox is None:
        return point, after
    target = prox(point, rule.prox_size(after, settings))
    return target, rule.placed(point, target, after)


def prox_by_name(objective: StepObjective) -> dict[str, Prox]:
    """Return the proximal operators of an objective's regularizers by parameter name."""
    return {
        f"network.{name}": regularizer.prox
        for regularizer, named in objective.penalties
        if regularizer.proximal
        for name in named
    }


def settings_as_tensors(rule: UpdateRule, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter group's numbers as float64 tensors."""
    found: dict[str, Any] = {}
    for name in numeric_settings(rule):
        value = group[name]
        several = isinstance(value, tuple | list)
        found[name] = tuple(map(_number, value)) if several else _number(value)
    return found


def numeric_settings(rule: UpdateRule) -> list[str]:
    """Return the names of an optimizer's settings that are numbers or tuples of numbers."""
    return [name for name, value in rule.defaults.items() if _is_number(value)]


def _is_number(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_number(each) for each in value)
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _tensors(numbers: Mapping[str, float]) -> dict[str, Tensor]:
    return {name: _number(value) for name, value in numbers.items()}
