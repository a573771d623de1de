"""Several whole optimizer steps in one compiled graph: gradients by autograd, updates by `update_fn`."""

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
    """Executor of several optimizer steps in one graph, and of the update alone in another for Lightning's steps.

    Two compilations of one formula differ by rounding. All steps therefore use the same compiled update, so that
    parameters do not depend on how many steps are fused.

    Args:
        optimizer: the fit's optimizer; `why_no_update_fn` is None for it.
        objective: F on a minibatch.
        gradient: the objective's gradient as a function without side effects.
        losses: receives the losses of batches.
        storage: the parameters' flat storage, if there is one.
        context: the context of a forward pass without Lightning.
        attributes: attributes of network, loss and penalties.
        uses_rng: whether the network draws random numbers, given features and target of a batch.
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
        """Update parameters and state by the present gradients."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        if len(gradients) < len(self._parameters):  # such as after `zero_grad` of one parameter
            type(self._optimizer).update(self._optimizer)
        else:
            self._store(self._update("always", "an update", *gradients, *self._here()))

    def prepare(self, rows: Rows, count: int) -> Callable[[], None] | None:
        """Compute several steps; see `FusedSteps.prepare`.

        None if a number was not finite, which single steps handle, and if the network draws random numbers.
        """
        each = len(rows.target) // count
        if self._uses_rng(rows.features[:each], rows.target[:each]):  # a fused graph would draw different ones
            self._say_why()
            return None
        self._count = count
        scale = factors(self._objective, each, 1, 1.0, rows.weight)
        here = (self._losses.total, *self._buffers, *self._here())
        key = (count, layout(rows), self._attributes.version)
        check, total, *after = self._steps(key, f"{count} steps of {each} rows", *rows, scale, *here)
        if not isfinite(check.item()):
            return None

        def apply() -> None:
            rest = self._store(after)
            self._losses.advance_total(total, len(rows.target))
            for buffer, value in zip(self._buffers, rest, strict=False):
                buffer.copy_(value)
            for parameter, gradient in zip(self._parameters, rest[len(self._buffers) :], strict=True):
                parameter.grad = gradient if parameter.grad is None else parameter.grad.copy_(gradient)

        return apply

    # ------------------------------------------------------------------ what is compiled

    def _after_update(self, *tensors: Tensor) -> list[Tensor]:
        """Gradients and `_here` → `_here` after an update."""
        count = len(self._parameters)
        points, states = self._advanced(tensors[:count], *self._named(tensors[count:]))
        return self._flat(points, states)

    def _after_steps(
        self, features: Tensor, target: Tensor, weight: Tensor, scale: Tensor, total: Tensor, *here: Tensor
    ) -> list[Tensor]:
        """Batches, Σ wℓ, buffers and `_here` → a finite check, these after all steps, and the last gradients."""
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
        """Return parameters and their states after an update."""
        rule = self._optimizer
        owned = zip(points, gradients, states, self._owners, strict=True)
        moved = [updated(rule, point, gradient, state, settings[owner]) for point, gradient, state, owner in owned]
        return [point for point, _ in moved], [state for _, state in moved]

    # ------------------------------------------------------------------ arguments and results

    def _here(self) -> list[Tensor]:
        """Return parameters, their states, and each group's numbers."""
        states = []
        for parameter, keys in zip(self._parameters, self._keys, strict=True):
            if not keys:
                continue  # indexing would create an entry, which is saved
            state = self._optimizer.state[parameter]
            if not state:
                state.update(self._optimizer.init_state(parameter))
            states += [state[key] for key in keys]
        return [*self._parameters, *states, *(settings.flat() for settings in self._settings)]

    def _named(self, here: Sequence[Tensor]) -> tuple[list[Tensor], list[State], list[dict[str, Any]]]:
        """Return the tensors of `_here` as parameters, states and settings by name."""
        tensors = iter(here)
        points = [next(tensors) for _ in self._parameters]
        states = [{key: next(tensors) for key in keys} for keys in self._keys]
        return points, states, [settings.named(next(tensors)) for settings in self._settings]

    def _flat(self, points: Sequence[Tensor], states: Sequence[State]) -> list[Tensor]:
        named = zip(states, self._keys, strict=True)
        return [*points, *(state[key] for state, keys in named for key in keys)]

    def _store(self, after: Sequence[Tensor]) -> list[Tensor]:
        """Copy results to parameters and states; return the remaining tensors."""
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
    """Return why the optimizer's steps cannot be fused; None if they can.

    Args:
        optimizer: the fit's optimizer.
        objective: F on a minibatch.
        storage: the parameters' flat storage, if there is one.
        context: the context of a forward pass without Lightning.
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
    """A parameter group's numbers as one tensor and by name, so that a compiled graph is valid for all values.

    Args:
        optimizer: the optimizer; its defaults determine which settings are numbers.
        number: the index of the group, which may be another dict after loading.
    """

    def __init__(self, optimizer: UpdateRule, number: int) -> None:
        self._optimizer = optimizer
        self._number = number
        self._names = numeric_settings(optimizer)
        self._values: list[Any] = []
        self._tensor: Tensor

    def flat(self) -> Tensor:
        """Return the numbers as one tensor, rebuilt if a schedule has changed one."""
        group = self._optimizer.param_groups[self._number]
        values = [group[name] for name in self._names]
        if values != self._values:
            self._values = values
            numbers = [number for value in values for number in (value if isinstance(value, tuple | list) else [value])]
            self._tensor = torch.tensor(numbers, dtype=torch.float64)
        return self._tensor

    def named(self, flat: Tensor) -> dict[str, Any]:
        """Return the numbers by name, a scalar each or a tuple of scalars."""
        scalars = iter(flat.unbind())
        return {
            name: tuple(next(scalars) for _ in value) if isinstance(value, tuple | list) else next(scalars)
            for name, value in zip(self._names, self._values, strict=True)
        }


class _Part(NamedTuple):
    """A tensor of the optimizer: a parameter of the network, or several concatenated."""

    places: list[int]
    """Indices of the network's parameters in it, in the order of the objective's."""
    shapes: list[torch.Size]


def _parts(owned: Sequence[Tensor], objective: StepObjective, storage: FlatStorage | None) -> list[_Part]:
    """Return the composition of each of an optimizer's parameters."""
    trained = objective.parameters()
    place = {id(p): i for i, p in enumerate(trained)}
    members = {id(p): [p] for p in trained}
    if storage is not None:
        members = {id(part): group for part, group in zip(storage.parts, storage.groups, strict=True)}
    return [_Part([place[id(p)] for p in members[id(o)]], [p.shape for p in members[id(o)]]) for o in owned]


def _unpacked(parts: Sequence[_Part], tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the network's parameters from the optimizer's tensors."""
    found: dict[int, Tensor] = {}
    for part, tensor in zip(parts, tensors, strict=True):
        pieces = torch.split(tensor.reshape(-1), [shape.numel() for shape in part.shapes])
        found |= {p: piece.view(s) for p, piece, s in zip(part.places, pieces, part.shapes, strict=True)}
    return [found[place] for place in range(len(found))]


def _packed(parts: Sequence[_Part], gradients: Sequence[Tensor], like: Sequence[Tensor]) -> list[Tensor]:
    """Return gradients of the optimizer's tensors from those of the network's parameters."""
    return [
        torch.cat([gradients[place].reshape(-1) for place in part.places]).view_as(tensor)
        for part, tensor in zip(parts, like, strict=True)
    ]


def _squares(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of squares, which is finite only if every element is."""
    return torch.stack([tensor.square().sum().double() for tensor in tensors]).sum()
