"""Several whole optimizer steps in one compiled graph: gradients by autograd, updates by the optimizer's formula."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim import Optimizer

from torchplug.batch import Rows
from torchplug.engine.contract import Losses
from torchplug.engine.gradient_function import GradientFunction, buffers_of, factors
from torchplug.engine.graph import Graph, layout
from torchplug.engine.plain_attributes import PlainAttributes
from torchplug.engine.train_step import State, UpdateRule, numeric_settings, updated
from torchplug.flat_storage import FlatStorage
from torchplug.no_grad import no_grad_if_enabled
from torchplug.objective import StepObjective

_logger = logging.getLogger(__name__)


class FusedUpdateSteps:
    """Optimizer steps in a graph, and the update alone in another, for steps that are Lightning's.

    Between two compilers' renderings of one formula lies rounding: whoever makes a step, the update is of this formula,
    so that parameters do not hang on how many steps were made at once.

    Args:
        optimizer: of the fit; `why_no_update_fn` has nothing against it.
        objective: F on a minibatch.
        gradient: of it, as a function without side effects.
        losses: is told of the losses on the way.
        storage: where the parameters lie, if they lie in one place.
        context: what a forward pass without Lightning runs in.
        attributes: of network, loss and penalties.
        draws: whether the network draws random numbers, given features and target of a batch.
    """

    def __init__(
        self,
        optimizer: UpdateRule,
        objective: StepObjective,
        gradient: GradientFunction,
        losses: Losses,
        storage: FlatStorage | None,
        context: Callable[[], AbstractContextManager[None]],
        attributes: PlainAttributes,
        uses_rng: Callable[[Tensor, Tensor], bool],
    ) -> None:
        self._optimizer = optimizer
        self._objective = objective
        self._gradient = gradient
        self._losses = losses
        self._attributes = attributes
        self._uses_rng = uses_rng
        groups = optimizer.param_groups
        self._parameters: list[Tensor] = [p for group in groups for p in group["params"]]
        self._owners = [number for number, group in enumerate(groups) for _ in group["params"]]
        self._keys = [list(optimizer.init_state(p)) for p in self._parameters]
        self._buffers = buffers_of(objective)
        self._parts = _parts(self._parameters, objective, storage)
        self._settings = [_Settings(optimizer, number) for number in range(len(groups))]
        self._has_said_why = False
        self._update = Graph(self._after_update, nullcontext)
        self._steps = Graph(self._after_steps, context)

    @no_grad_if_enabled
    def update(self) -> None:
        """Advance parameters and state by the gradients that are there."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if len(gradients) < len(self._parameters):  # somebody has taken one away
            type(self._optimizer).update(self._optimizer)
        else:
            self._take(self._update("always", "an update", *gradients, *self._here()))

    def made(self, rows: Rows, count: int) -> Callable[[], None] | None:
        """Compute several steps, as the contract says.

        None where a number was not finite, a matter for single steps, and where the network draws random numbers.
        """
        each = len(rows.target) // count
        if self._uses_rng(rows.features[:each], rows.target[:each]):  # others, in another graph
            self._say_why()
            return None
        self._count = count
        scale = factors(self._objective, each, 1, 1.0, rows.weight)
        here = (self._losses.total, *self._buffers, *self._here())
        key = (count, layout(rows), self._attributes.version)
        check, total, *after = self._steps(key, f"{count} steps of {each} rows", *rows, scale, *here)
        if not isfinite(check.item()):
            return None

        def take() -> None:
            rest = self._take(after)
            self._losses.go_on(total, len(rows.target))
            for buffer, value in zip(self._buffers, rest, strict=False):
                buffer.copy_(value)
            for parameter, gradient in zip(self._parameters, rest[len(self._buffers) :], strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.copy_(gradient)

        return take

    # ------------------------------------------------------------------ what is compiled

    def _after_update(self, *tensors: Tensor) -> list[Tensor]:
        """Of gradients and `_here`: the same after an update."""
        count = len(self._parameters)
        points, states = self._advanced(tensors[:count], *self._named(tensors[count:]))
        return self._flat(points, states)

    def _after_steps(
        self, features: Tensor, target: Tensor, weight: Tensor, scale: Tensor, total: Tensor, *here: Tensor
    ) -> list[Tensor]:
        """Of several batches, Σ wℓ, buffers and `_here`: whether all is finite; the same after all steps; gradients."""
        check, buffers = torch.zeros_like(total), list(here[: len(self._buffers)])
        points, states, settings = self._named(here[len(buffers) :])
        gradients: Sequence[Tensor] = ()
        batches = (torch.tensor_split(each, self._count) for each in (features, target, weight))
        for batch in zip(*batches, strict=True):
            values = _unpacked(self._parts, points)
            _, weighted, found, buffers = self._gradient(values, buffers, *batch, scale)
            gradients = _packed(self._parts, found, points)
            points, states = self._advanced(gradients, points, states, settings)
            total = total + weighted
            check = check + _squares(gradients)
        return [check + _squares(points), total, *self._flat(points, states), *buffers, *gradients]

    def _advanced(
        self,
        gradients: Sequence[Tensor],
        points: Sequence[Tensor],
        states: Sequence[State],
        settings: Sequence[Mapping[str, Any]],
    ) -> tuple[list[Tensor], list[State]]:
        """What the formula makes of parameters and their states."""
        rule = self._optimizer
        owned = zip(points, gradients, states, self._owners, strict=True)
        moved = [updated(rule, point, gradient, state, settings[owner]) for point, gradient, state, owner in owned]
        return [point for point, _ in moved], [state for _, state in moved]

    # ------------------------------------------------------------------ what goes in and comes out

    def _here(self) -> list[Tensor]:
        """Parameters, their states, and each group's numbers."""
        states = []
        for parameter, keys in zip(self._parameters, self._keys, strict=True):
            if not keys:
                continue  # looking would make an entry, which is saved
            state = self._optimizer.state[parameter]
            if not state:
                state.update(self._optimizer.init_state(parameter))
            states += [state[key] for key in keys]
        return [*self._parameters, *states, *(settings.flat() for settings in self._settings)]

    def _named(self, here: Sequence[Tensor]) -> tuple[list[Tensor], list[State], list[dict[str, Any]]]:
        """The same as a formula takes it."""
        tensors = iter(here)
        points = [next(tensors) for _ in self._parameters]
        states = [{key: next(tensors) for key in keys} for keys in self._keys]
        return points, states, [settings.named(next(tensors)) for settings in self._settings]

    def _flat(self, points: Sequence[Tensor], states: Sequence[State]) -> list[Tensor]:
        named = zip(states, self._keys, strict=True)
        return [*points, *(state[key] for state, keys in named for key in keys)]

    def _take(self, after: Sequence[Tensor]) -> list[Tensor]:
        """Move parameters and states; returns what is left of the tensors."""
        tensors = iter(after)
        for parameter in self._parameters:
            parameter.copy_(next(tensors))
        for parameter, keys in zip(self._parameters, self._keys, strict=True):
            for key in keys:
                self._optimizer.state[parameter][key].copy_(next(tensors))
        return list(tensors)

    def _say_why(self) -> None:
        if not self._has_said_why:
            _logger.info("one step per graph: the network draws random numbers")
        self._has_said_why = True


def why_no_update_fn(
    optimizer: Optimizer,
    objective: StepObjective,
    storage: FlatStorage | None,
    context: Callable[[], AbstractContextManager[None]],
) -> str | None:
    """What stands in the way of an update by formula; None if nothing does.

    Args:
        optimizer: of the fit.
        objective: F on a minibatch.
        storage: where the parameters lie, if they lie in one place.
        context: what a forward pass without Lightning runs in.
    """
    name, trained = type(optimizer).__name__, objective.parameters()
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    with context():
        rounds = torch.is_autocast_enabled("cpu")
    if not hasattr(optimizer, "update_fn"):
        return f"the optimizer {name} has no update_fn"
    if hasattr(optimizer, "train"):
        return f"the optimizer {name} trains at another point than it evaluates"
    if getattr(optimizer, "prox", None):
        return "a proximal regularizer acts after the update"
    if any(p.device.type != "cpu" for p in trained):
        return "the parameters are not on a CPU"
    if rounds:
        return "the precision rounds within the network"
    if {id(p) for p in owned} != {id(p) for p in (trained if storage is None else storage.parts)}:
        return f"the optimizer {name} has other parameters than are trained"
    return None


class _Settings:
    """A group's numbers, as one tensor and by name: what is compiled then holds for all numbers.

    Args:
        optimizer: whose defaults say which settings are numbers.
        number: of one of its parameter groups, which may be another dict after loading.
    """

    def __init__(self, optimizer: UpdateRule, number: int) -> None:
        self._optimizer = optimizer
        self._number = number
        self._names = numeric_settings(optimizer)
        self._values: list[Any] = []
        self._tensor: Tensor

    def flat(self) -> Tensor:
        """One after the other; made anew where a schedule has moved one."""
        group = self._optimizer.param_groups[self._number]
        values = [group[name] for name in self._names]
        if values != self._values:
            self._values = values
            numbers = [number for value in values for number in (value if isinstance(value, tuple | list) else [value])]
            self._tensor = torch.tensor(numbers, dtype=torch.float64)
        return self._tensor

    def named(self, flat: Tensor) -> dict[str, Any]:
        """By name, a scalar each or a tuple of scalars."""
        scalars = iter(flat.unbind())
        return {
            name: tuple(next(scalars) for _ in value) if isinstance(value, tuple | list) else next(scalars)
            for name, value in zip(self._names, self._values, strict=True)
        }


class _Part(NamedTuple):
    """What an optimizer sees as one tensor: one of its parameters, or several on end."""

    places: list[int]
    """Of the network's parameters in it, in the order of the objective's."""
    shapes: list[torch.Size]


def _parts(owned: Sequence[Tensor], objective: StepObjective, storage: FlatStorage | None) -> list[_Part]:
    """What each of an optimizer's parameters is made of."""
    trained = objective.parameters()
    place = {id(p): i for i, p in enumerate(trained)}
    members = {id(p): [p] for p in trained}
    if storage is not None:
        members = {id(part): group for part, group in zip(storage.parts, storage.groups, strict=True)}
    return [_Part([place[id(p)] for p in members[id(o)]], [p.shape for p in members[id(o)]]) for o in owned]


def _unpacked(parts: Sequence[_Part], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The network's parameters, from what the optimizer sees."""
    found: dict[int, Tensor] = {}
    for part, tensor in zip(parts, tensors, strict=True):
        pieces = torch.split(tensor.reshape(-1), [shape.numel() for shape in part.shapes])
        found |= {p: piece.view(s) for p, piece, s in zip(part.places, pieces, part.shapes, strict=True)}
    return [found[place] for place in range(len(found))]


def _packed(parts: Sequence[_Part], gradients: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """What the optimizer sees, from one gradient per parameter of the network."""
    return [
        torch.cat([gradients[place].reshape(-1) for place in part.places]).view_as(tensor)
        for part, tensor in zip(parts, like, strict=True)
    ]


def _squares(tensors: Sequence[Tensor]) -> Tensor:
    """Their sum, finite only if every element is."""
    return torch.stack([tensor.square().sum().double() for tensor in tensors]).sum()
