"""The gradient of F on a minibatch as a function without side effects, which a compiler can put into a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from torchplug.objective import StepObjective, total_penalty

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


class _Share(nn.Module):
    """One rank's share of an optimizer step as a module, so that network and loss keep their parameters by name."""

    def __init__(self, objective: StepObjective) -> None:
        super().__init__()
        self.network = objective.network
        self.loss = objective.loss

    def forward(self, features: Any, target: Tensor, weight: Tensor) -> Tensor:
        weighted: Tensor = (self.loss(self.network(features), target) * weight).sum()
        return weighted


def gradient_function(objective: StepObjective) -> GradientFunction:
    """F's gradient.

    Args:
        objective: F on a minibatch; its trainable parameters are the function's first argument.
    """
    module = _Share(objective)
    names = [name for name, p in module.named_parameters() if p.requires_grad]
    buffer_names = [f"network.{name}" for name, _ in objective.network.named_buffers()]
    penalties = [(r, [f"network.{name}" for name in named]) for r, named in objective.penalties if not r.proximal]

    def scaled_loss(
        values: list[Tensor], buffers: list[Tensor], features: Any, target: Tensor, weight: Tensor, factors: Tensor
    ) -> Any:
        named: dict[str, Any] = dict(zip(names, values, strict=True))
        moving = {name: buffer.clone() for name, buffer in zip(buffer_names, buffers, strict=True)}  # in place
        weighted = functional_call(module, named | moving, (features, target, weight))
        value = weighted * factors[0]
        if penalties:
            penalty = total_penalty([(r, {n: named[n] for n in members}) for r, members in penalties])
            value = value + penalty * factors[1]
        return value, (weighted, list(moving.values()))

    def gradient(values: list[Tensor], *arguments: Any) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        gradients, (value, (weighted, buffers)) = grad_and_value(scaled_loss, has_aux=True)(values, *arguments)
        return value, weighted, gradients, buffers

    return gradient
