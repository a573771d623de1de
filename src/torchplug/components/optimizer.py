"""Base classes of first-order optimizers: a step that ends with proximal operators, and fused kernels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer

from torchplug.errors import PluginError
from torchplug.no_grad import no_grad_if_enabled
from torchplug.registry import Resolved, named_failures

State = dict[str, Tensor]
"""What an optimizer keeps of a parameter."""

Prox = Callable[[Tensor, Tensor | float], Tensor]
"""prox(parameter, step) of a regularizer."""

Closure = Callable[[], Any]
"""Computes the loss and its gradients, and returns the loss."""


class ProximalOptimizer(Optimizer):
    """An optimizer whose step is the closure, an update of each group, and `prox`, which costs nothing when empty.

    Attributes:
        prox: the proximal operator of each penalized parameter; not saved.
    """

    prox: dict[Tensor, Prox]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prox = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return what copies have, which is not what checkpoints have."""
        return {**super().__getstate__(), "prox": self.prox}

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """Make one update; return the closure's result, if there is one."""
        loss = evaluated(closure)
        self.update()
        return loss

    @no_grad_if_enabled
    def update(self) -> None:
        """Advance parameters and state by the present gradients."""
        for group in self.param_groups:
            parameters, gradients = moved(group)
            if parameters:
                self.advance(group, parameters, gradients)
        if self.prox:
            self.apply_prox()

    @abstractmethod
    def advance(self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Advance the parameters of a group that have a gradient, of which there is at least one."""

    def init_state(self, parameter: Tensor) -> State:
        """Return a parameter's state before its first update; empty unless overridden."""
        return {}

    def states(self, parameters: Sequence[Tensor]) -> list[State]:
        """What is kept of these parameters."""
        states = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state.update(self.init_state(parameter))
            states.append(state)
        return states

    def prox_size(self, state: State, settings: Mapping[str, Any]) -> Tensor | float:
        """Return the step size of the update that led to this state: a number, or one per element."""
        size: Tensor | float = settings["lr"]
        return size

    def placed(self, parameter: Tensor, point: Tensor, state: State) -> State:
        """Return the state after the proximal operator moves a parameter to a point; unchanged by default."""
        return state

    def apply_prox(self) -> None:
        """Apply the proximal operators to the parameters that the step updated."""
        for group in self.param_groups:
            for parameter in group["params"]:
                prox = self.prox.get(parameter)
                if prox is not None and parameter.grad is not None:
                    state = self.state.get(parameter, {})
                    point = prox(parameter, self.prox_size(state, group))
                    state.update(self.placed(parameter, point, state))
                    parameter.copy_(point)


class FusedOptimizer(ProximalOptimizer):
    """Mixin for torch's classes with a fused kernel, which is used if every parameter of a group allows it."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, fused if they have one floating-point dtype and one CPU or CUDA device.

        Set here and not by the constructor's `fused`, by which GradScaler would leave skipping bad steps to
        the kernel: proximal operators and gradient clipping could not skip them.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        kinds = {(p.dtype, p.device) for p in group["params"]}
        group["fused"] = len(kinds) == 1 and all(
            dtype.is_floating_point and device.type in ("cpu", "cuda") for dtype, device in kinds
        )


def grouped(optimizer: Resolved, named: Sequence[tuple[str, nn.Parameter]]) -> list[dict[str, Any]]:
    """Return the parameter groups by an optimizer's rule, or one group.

    Args:
        optimizer: the optimizer.
        named: the trainable parameters with their names.

    Raises:
        PluginError: if the rule does not return every parameter once, as pairs.
    """
    if optimizer.groups is None:
        return [{"params": list(named)}]
    with named_failures([optimizer]):
        groups = [{**group, "params": list(group["params"])} for group in optimizer.groups(list(named))]
        returned = sorted(name for group in groups for name, _ in group["params"])
    if returned != sorted(name for name, _ in named):
        raise PluginError(
            f"optimizer {optimizer.qualified_name}: its rule of parameter groups returns "
            f"{', '.join(returned) or 'nothing'}, and not each of {', '.join(name for name, _ in named)} once"
        )
    return [group for group in groups if group["params"]]


def steps_by_gradients(kind: type) -> bool:
    """Whether a class's `step` is one of torch's that use the gradients alone."""
    owner = next(base for base in kind.__mro__ if "step" in vars(base))
    return owner.__module__.startswith("torch.optim.") and not issubclass(owner, torch.optim.LBFGS)


def coefficients(like: Tensor, *numbers: Tensor | float) -> tuple[Tensor | float, ...]:
    """Numbers that a formula has computed in float64, rounded to the precision of what they multiply.

    A tensor of several float64 numbers would turn everything that it meets into float64.
    """
    return tuple(number.to(like.dtype) if isinstance(number, Tensor) else number for number in numbers)


def moved(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """A group's parameters with gradients, and the gradients."""
    parameters, gradients = [], []
    for parameter in group["params"]:
        gradient = parameter.grad
        if gradient is not None:
            parameters.append(parameter)
            gradients.append(gradient)
    return parameters, gradients


def evaluated(closure: Closure | None) -> Any:
    """The closure's result, called with gradients enabled; None without a closure."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
