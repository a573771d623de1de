"""F on a minibatch as a function of named tensors: what every gradient, by whatever executor, is the gradient of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn
from torch.func import functional_call

from torchplug.components.contracts import Loss, Regularizer, row_losses
from torchplug.objective.penalties import total_penalty
from torchplug.objective.step import StepObjective

Numbers = Mapping[str, Tensor]
"""Hyper-parameters of a component, by name."""
_C = TypeVar("_C", Loss, Regularizer)


class Evaluated(NamedTuple):
    """F at a point.

    Args:
        value: what is differentiated, a scalar.
        weighted: Σ wᵢ ℓᵢ over the batch, a scalar.
        buffers: the network's buffers after the forward pass, by name.
    """

    value: Tensor
    weighted: Tensor
    buffers: dict[str, Tensor]


class ObjectiveFunction:
    r"""F as a function without side effects, for `torch.func` and for a compiler.

        F = scale · Σ wᵢ ℓᵢ + share · Σ λR

    Parameters and buffers are named as in a `ComponentModule`: `network.…`, and `loss.…` for those of the loss.
    Proximal penalties are no part of it: they belong to the optimizer's step.

    Args:
        objective: says which network, loss and penalties.

    Attributes:
        parameters: the names of the trainable parameters, in the order of `objective.parameters()`.
        buffers: the names of the network's buffers.
    """

    def __init__(self, objective: StepObjective) -> None:
        self._module = _Weighted(objective.network, objective.loss)
        self._penalties = [
            (regularizer, {name: f"network.{name}" for name in named})
            for regularizer, named in objective.penalties
            if not regularizer.proximal
        ]
        self.parameters = [name for name, p in self._module.named_parameters() if p.requires_grad]
        self.buffers = [name for name, _ in self._module.named_buffers()]

    def named_buffers(self) -> list[tuple[str, Tensor]]:
        """The network's buffers as they are now, by name."""
        return list(self._module.named_buffers())

    def __call__(
        self,
        parameters: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor],
        batch: tuple[Any, Tensor, Tensor],
        scale: Tensor | float,
        share: Tensor | float = 1.0,
        loss: Numbers | None = None,
        penalties: tuple[Numbers, ...] | None = None,
    ) -> Evaluated:
        """F at these parameters.

        Args:
            parameters: all trainable ones.
            buffers: all of them; they are copied.
            batch: features (any pytree), target and weight (n,).
            scale: what Σ wᵢ ℓᵢ is multiplied by, such as 1/|B|.
            share: what the penalties are multiplied by.
            loss: numbers in the place of the loss's own.
            penalties: for each penalty that is not proximal, numbers in the place of its own.
        """
        moving = {name: buffer.clone() for name, buffer in buffers.items()}  # changed in place
        named = {**parameters, **moving}
        weighted: Tensor = functional_call(self._module, named, (*batch, loss or {}))
        value = weighted * scale
        if self._penalties:
            own = penalties or ({},) * len(self._penalties)
            chosen = [
                (with_numbers(regularizer, numbers), {name: parameters[full] for name, full in members.items()})
                for (regularizer, members), numbers in zip(self._penalties, own, strict=True)
            ]
            value = value + total_penalty(chosen) * share
        return Evaluated(value, weighted, moving)


class _Weighted(nn.Module):
    """Σ wᵢ ℓᵢ as a module, so that network and loss have their parameters by name."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, features: Any, target: Tensor, weight: Tensor, numbers: Numbers) -> Tensor:
        values = row_losses(with_numbers(self.loss, numbers), self.network(features), target)
        return (values * weight).sum()


def with_numbers(component: _C, numbers: Numbers) -> _C:
    """A loss or regularizer with other hyper-parameters, which shares all else; itself where there are none."""
    if not numbers:
        return component
    changed = copy.copy(component)
    for name, number in numbers.items():
        vars(changed)[name] = number
    return changed


def numbers_of(component: Loss | Regularizer) -> dict[str, float]:
    """The hyper-parameters that a component declares and that are numbers, by name."""
    found = {name: getattr(component, name) for name in component.hyper}
    return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}
