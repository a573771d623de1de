"""The gradient of F on a minibatch as a function without side effects, which a compiler can put into a graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from torchplug.objective import StepObjective, total_penalty

GradientFunction = Callable[..., tuple[Tensor, Tensor, list[Tensor]]]
"""(parameters, features, target, weight, factors) → what is backpropagated, Σ wℓ, and the gradients."""


def factors(objective: StepObjective, samples: int, times: int, share: float, like: Tensor) -> Tensor:
    """What Σ wℓ and the penalties are multiplied by, for the function's last argument.

    Args:
        objective: F on a minibatch.
        samples: |B|.
        times: what Lightning and DDP divide by.
        share: of the penalties.
        like: has the dtype and device.
    """
    return like.new_tensor([times / samples if objective.reduction == "mean" else times, share])


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
    penalties = [(r, [f"network.{name}" for name in named]) for r, named in objective.penalties if not r.proximal]

    def share(values: list[Any], features: Any, target: Tensor, weight: Tensor, factors: Tensor) -> Any:
        named = dict(zip(names, values, strict=True))
        weighted = functional_call(module, named, (features, target, weight))
        value = weighted * factors[0]
        if penalties:
            value = (
                value + total_penalty([(r, {n: named[n] for n in members}) for r, members in penalties]) * factors[1]
            )
        return value, weighted

    def gradient(values: list[Any], *batch: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        gradients, (value, weighted) = grad_and_value(share, has_aux=True)(values, *batch)
        return value, weighted, gradients

    return gradient
