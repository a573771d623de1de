"""What first-order optimizers are built on: a step that ends with proximal operators, fused kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from torchplug.without_graph import without_graph

Prox = Callable[[Tensor, Tensor | float], Tensor]
"""prox(parameter, step) of a regularizer."""

Closure = Callable[[], Any]
"""Computes the loss and its gradients, and returns the loss."""


class Proximal(Optimizer):
    """An optimizer whose step ends with `prox`. Empty, it costs nothing.

    Attributes:
        prox: the proximal operator of each penalized parameter; no part of the saved state.
    """

    prox: dict[Tensor, Prox]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prox = {}

    def prox_step(self, group: dict[str, Any], parameter: Tensor) -> Tensor | float:
        """The step size of the last update: a number, or one per element."""
        step: float = group["lr"]
        return step

    def place(self, parameter: Tensor, point: Tensor) -> None:
        """Move a parameter to where the proximal operator wants it."""
        parameter.copy_(point)

    @without_graph
    def apply_prox(self) -> None:
        """Apply the proximal operators to the parameters that the step updated."""
        if not self.prox:
            return
        for group in self.param_groups:
            for parameter in group["params"]:
                prox = self.prox.get(parameter)
                if prox is not None and parameter.grad is not None:
                    self.place(parameter, prox(parameter, self.prox_step(group, parameter)))


class ProximalAfterStep(Proximal):
    """For torch's own classes: the proximal operators follow as a hook, their step stays theirs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_step_post_hook(lambda *_: self.apply_prox())


class Fused(Optimizer):
    """For torch's classes with a fused kernel: it is used where every parameter of a group allows it."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, fused if they are floating-point and on a CPU or CUDA device.

        Set here and not by the constructor's `fused`, which would announce to GradScaler that the
        kernel skips bad steps by itself: the proximal operators, and gradient clipping, could not.
        """
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group["fused"] = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in group["params"])


def moved(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """A group's parameters that have a gradient, and these."""
    parameters, gradients = [], []
    for parameter in group["params"]:
        gradient = parameter.grad
        if gradient is not None:
            parameters.append(parameter)
            gradients.append(gradient)
    return parameters, gradients


def evaluated(closure: Closure | None) -> Any:
    """What the closure returns, called with gradients on; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
