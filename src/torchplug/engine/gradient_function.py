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
"""(parameters, buffers, features, target, weight, factors) → what is backpropagated, Σ wℓ, gradients, buffers after."""


def buffers_of(objective: StepObjective) -> list[Tensor]:
    """The network's buffers, such as batch normalization's running means; for the function's second argument."""
    return list(objective.network.buffers())


def tried(objective: StepObjective, features: Any) -> tuple[Tensor, bool]:
    """Scores, and whether the network draws random numbers for them; buffers and generators stay as they are."""
    network = objective.network
    state = torch.get_rng_state()
    with torch.no_grad():
        scores = functional_call(network, {name: b.clone() for name, b in network.named_buffers()}, (features,))
    drawn = not torch.equal(state, torch.get_rng_state())
    torch.set_rng_state(state)
    return scores, drawn


def factors(objective: StepObjective, samples: int, times: int, scaled_loss: float, like: Tensor) -> Tensor:
    """What Σ wℓ and the penalties are multiplied by, for the function's last argument.

    Args:
        objective: F on a minibatch.
        samples: |B|.
        times: what Lightning and DDP divide by.
        share: of the penalties.
        like: has the dtype and device.
    """
    return like.new_tensor([times / samples if objective.reduction == "mean" else times, scaled_loss])


def gradient_function(objective: StepObjective) -> GradientFunction:
    """F's gradient.

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
