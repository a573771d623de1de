"""The gradient as one compiled function: for networks of many small operations that are no chain."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value

from torchplug.batch import Batch
from torchplug.engine.carried import carried
from torchplug.engine.contract import GradientEngine
from torchplug.errors import ConfigurationError
from torchplug.objective import StepObjective, check_shapes, total_penalty

_logger = logging.getLogger(__name__)


class Compiled(GradientEngine):
    """Forward and backward in one graph, by torch.compile.

    The first batch of each shape is compiled, which takes seconds to minutes; torch keeps the result on disk, and the
    next run of the same network finds it there.
    """

    name = "compiled"

    def _prepare(self) -> None:
        storage = self._storage
        self._places = None if storage is None else storage.gradients(self._parameters)
        self._shapes: set[torch.Size] = set()
        on_cpu = self._parameters[0].device.type == "cpu"
        function = _gradient_function(self._objective)
        # on a CPU the call itself is what costs: a wrapper in C++ halves it
        options: dict[str, Any] = {"cpp_wrapper": True} if on_cpu else {}
        self._function = torch.compile(function, dynamic=False, options=options)

    def carried(self, batch: Batch, world: int, window: int) -> Tensor:
        """A value whose backward pass gives each parameter this rank's share of the gradient."""
        value, gradients = self._call(batch, world * window, window / batch.micro_batches)
        return carried(value, gradients, self._parameters)

    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Leave this rank's share of the gradient in the parameters' `grad`."""
        with self._context():
            _, gradients = self._call(batch, world, 1.0)
        if self._places is None:
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
        else:
            for place, gradient in zip(self._places, gradients, strict=True):
                place.copy_(gradient)

    def _call(self, batch: Batch, times: int, share: float) -> tuple[Tensor, list[Tensor]]:
        features, target, weight = batch.features, batch.target, batch.weight
        new = target.shape not in self._shapes
        if new and not self._shapes:
            with torch.no_grad():
                check_shapes(self._objective.loss, self._objective.network(features), target)
        scale = times / batch.samples if self._objective.reduction == "mean" else times
        factors = weight.new_tensor([scale, share])
        start = time.perf_counter()
        try:
            with torch.no_grad():
                value, weighted, gradients = self._function(self._parameters, features, target, weight, factors)
        except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigurationError(f"engine compiled: {reason}; leave the engine at auto") from error
        if new:
            self._shapes.add(target.shape)
            _logger.info("compiled for batches of %d rows in %.1f s", len(target), time.perf_counter() - start)
        self._losses.add(weighted, len(target))
        return value, gradients


class _Share(nn.Module):
    """One rank's share of an optimizer step as a module, so that network and loss keep their parameters by name."""

    def __init__(self, objective: StepObjective) -> None:
        super().__init__()
        self.network = objective.network
        self.loss = objective.loss

    def forward(self, features: Any, target: Tensor, weight: Tensor) -> Tensor:
        weighted: Tensor = (self.loss(self.network(features), target) * weight).sum()
        return weighted


def _gradient_function(objective: StepObjective) -> Callable[..., tuple[Tensor, Tensor, list[Tensor]]]:
    """(parameters, features, target, weight, factors) → what is backpropagated, Σ wℓ, and the gradients."""
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
