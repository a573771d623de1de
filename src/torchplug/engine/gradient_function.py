"""The gradient of F on a minibatch as a function of lists of tensors, which a compiler can put into a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value

from torchplug.objective import StepObjective
from torchplug.objective.function import ObjectiveFunction

GradientFunction = Callable[..., tuple[Tensor, Tensor, list[Tensor], list[Tensor]]]
"""(parameters, buffers, features, target, weight, factors) → scaled loss, Σ wℓ, gradients, buffers after the pass."""


def buffers_of(objective: StepObjective) -> list[Tensor]:
    """Return the network's buffers, such as running means; the second argument of the gradient function."""
    return list(objective.network.buffers())


def tried(objective: StepObjective, features: Any) -> tuple[Tensor, bool]:
    """Return scores and whether the network draws random numbers; buffers and generators are not changed."""
    network = objective.network
    state = torch.get_rng_state()
    with torch.no_grad():
        scores = functional_call(network, {name: b.clone() for name, b in network.named_buffers()}, (features,))
    drawn = not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    return scores, drawn


def factors(objective: StepObjective, samples: int, times: int, penalty_scale: float, like: Tensor) -> Tensor:
    """Return the factors of Σ wℓ and of the penalties; the last argument of the gradient function.

    Args:
        objective: F on a minibatch.
        samples: |B|.
        times: the product of the divisors of Lightning and DDP.
        penalty_scale: the factor of the penalties.
        like: a tensor of the wanted dtype and device.
    """
    return like.new_tensor([times / samples if objective.reduction == "mean" else times, penalty_scale])


def gradient_function(objective: StepObjective) -> GradientFunction:
    """Return F's gradient as a function of tensors.

    Args:
        objective: F on a minibatch; its trainable parameters are the function's first argument.
    """
    function = ObjectiveFunction(objective)

    def value(values: list[Tensor], buffers: list[Tensor], *batch: Any) -> Any:
        *rows, factors = batch
        parameters = dict(zip(function.parameters, values, strict=True))
        moving = dict(zip(function.buffers, buffers, strict=True))
        found = function(parameters, moving, (rows[0], rows[1], rows[2]), factors[0], factors[1])
        return found.value, (found.weighted, list(found.buffers.values()))

    def gradient(values: list[Tensor], *arguments: Any) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        gradients, (found, (weighted, buffers)) = grad_and_value(value, has_aux=True)(values, *arguments)
        return found, weighted, gradients, buffers

    return gradient
