"""What checks of optimizers share: small networks, functions to minimize, and steps as the core makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from torchplug.components.optimizer import grouped
from torchplug.registry import Resolved
from torchplug.registry.component import Capability
from torchplug.testing.record import NotApplicable, NotRun
from torchplug.testing.subject import Subject

Function = Callable[[nn.Module], Tensor]
"""What is minimized, as a function of the network."""


def quadratic(network: nn.Module) -> Tensor:
    """Return Σ ½ c (θ − ⅓)² over all parameters, 0.5 ≤ c ≤ 1.5."""
    return quadratic_of(list(network.parameters()))


def quadratic_of(parameters: Sequence[Tensor]) -> Tensor:
    """Return Σ ½ c (θ − ⅓)² over these parameters."""
    total = torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)
    for p in parameters:
        c = torch.linspace(0.5, 1.5, p.numel(), dtype=p.dtype, device=p.device).view_as(p)
        total = total + 0.5 * (c * (p - 1 / 3).square()).sum()
    return total


def logistic(network: nn.Module) -> Tensor:
    """Return the mean logistic loss of a linear map of four features, on forty rows."""
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(40, 4, generator=generator, dtype=torch.float64)
    noise = torch.randn(40, generator=generator, dtype=torch.float64)
    sign = (features.sum(1) + noise).sign()
    scores = network(features)[:, 0] * sign
    return softplus(-scores).mean()


def network_of(*layers: nn.Module) -> nn.Module:
    """Return a network with drawn float64 weights."""
    network = nn.Sequential(*layers).double()
    generator = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return network


def small_network() -> nn.Module:
    """Return a network with two matrices and two vectors."""
    return network_of(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


class OptimizerSubject(Subject):
    """An optimizer under test, over the parameters of a small network."""

    def over(self, network: nn.Module, **parameters: Any) -> Any:
        """Return an instance over a network's parameters, in the groups of its rule.

        Args:
            network: the network.
            parameters: beside the declared ones.

        Raises:
            NotRun: if it cannot be built.
        """
        resolved = self.resolved(**parameters)
        try:
            return self._built_over(resolved, network)
        except Exception as error:
            raise NotRun("it cannot be built, see the check builds_from_its_defaults") from error

    def built(self, resolved: Resolved) -> Any:
        """Build it over a small network."""
        return self._built_over(resolved, small_network())

    def answer(self, instance: Any) -> Any:
        """The parameters after two steps on a quadratic; nothing if it is full-batch."""
        if Capability.OBJECTIVE in self.capabilities:
            raise NotApplicable("it is full-batch, and steps by an objective")
        parameters = [p for group in instance.param_groups for p in group["params"]]
        for _ in range(2):
            step(instance, self.capabilities, lambda: quadratic_of(parameters))
        return [p.detach() for p in parameters]

    def _built_over(self, resolved: Resolved, network: nn.Module) -> Any:
        named = Capability.NAMES in self.capabilities
        groups = grouped(resolved, list(network.named_parameters()))
        given = [{**g, "params": [pair if named else pair[1] for pair in g["params"]]} for g in groups]
        return resolved.build(given, total_steps=1000, num_data=1000, model=network)


class Descent:
    """Steps of an optimizer on a function of a network.

    Args:
        subject: the optimizer.
        function: what is minimized.
        network: a small one by default.
        parameters: of the optimizer, beside the declared ones.
    """

    def __init__(
        self,
        subject: OptimizerSubject,
        function: Function = quadratic,
        network: nn.Module | None = None,
        **parameters: Any,
    ) -> None:
        self.network = small_network() if network is None else network
        self.function = function
        self.optimizer = subject.over(self.network, **parameters)
        self._capabilities = subject.capabilities

    def steps(self, number: int) -> Descent:
        """Make some steps, and move the parameters to where they are evaluated."""
        for _ in range(number):
            step(self.optimizer, self._capabilities, lambda: self.function(self.network))
        if number:
            evaluation(self.optimizer)
        return self

    def must_step(self, number: int = 3) -> Descent:
        """As `steps`.

        Raises:
            NotRun: if a step fails.
        """
        try:
            return self.steps(number)
        except Exception as error:
            raise NotRun("its step fails, see the check decreases_a_quadratic") from error

    @property
    def value(self) -> float:
        """The function's value."""
        return float(self.function(self.network).detach())

    @property
    def weights(self) -> list[Tensor]:
        """A copy of the parameters."""
        return [p.detach().clone() for p in self.network.parameters()]


def step(optimizer: Any, capabilities: frozenset[Capability], function: Callable[[], Tensor]) -> Any:
    """Make a step as the core does: with a closure or without, and with a graph of the gradient, as declared."""
    if hasattr(optimizer, "train") and hasattr(optimizer, "eval"):
        optimizer.train()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = function()
        loss.backward(create_graph=Capability.GRAPH in capabilities)  # type: ignore[no-untyped-call]
        return loss

    if Capability.UPDATE in capabilities:
        closure()
        return optimizer.step()
    return optimizer.step(closure)


def evaluation(optimizer: Any) -> None:
    """Move the parameters to where they are evaluated."""
    if hasattr(optimizer, "train") and hasattr(optimizer, "eval"):
        optimizer.eval()
