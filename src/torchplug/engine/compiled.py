"""Gradients by a compiled function: for networks of many small operations, and for several steps at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from torchplug.batch import Batch
from torchplug.engine.contract import GradientEngine
from torchplug.engine.fused_steps import FusedUpdateSteps, why_no_update_fn
from torchplug.engine.gradient_function import buffers_of, factors, gradient_function, tried
from torchplug.engine.graph import Graph, layout
from torchplug.engine.plain_attributes import PlainAttributes
from torchplug.engine.precomputed import with_precomputed_grad
from torchplug.engine.train_step import UpdateRule
from torchplug.objective import check_shapes

_logger = logging.getLogger(__name__)


class Compiled(GradientEngine):
    """Forward and backward pass in one graph, compiled by torch; several steps where the optimizer has `update_fn`."""

    name = "compiled"

    def _prepare(self) -> None:
        objective, storage = self._objective, self._storage
        self._places = None if storage is None else storage.gradients(self._parameters)
        self._function = gradient_function(objective)
        self._buffers = buffers_of(objective)
        self._attributes = PlainAttributes([objective.network, objective.loss, *(r for r, _ in objective.penalties)])
        self._graph = Graph(self._flat_gradient, self._context)
        self._spec: TreeSpec
        self._uses_rng: bool | None = None

    def renew(self) -> None:
        """Recompile if attributes of network, loss or penalties have changed."""
        self._attributes.refresh()

    def fused_steps(self, optimizer: Optimizer) -> FusedUpdateSteps | None:
        """Return an executor of several steps in one graph, by the optimizer's `update_fn`; None if it has none."""
        obstacle = why_no_update_fn(optimizer, self._objective, self._storage, self._context)
        if obstacle is not None:
            _logger.info("one step per graph: %s", obstacle)
            return None
        return FusedUpdateSteps(
            cast(UpdateRule, optimizer),
            self._objective,
            self._function,
            self._losses,
            self._storage,
            self._context,
            self._attributes,
            self.uses_rng,
        )

    def uses_rng(self, features: Any, target: Tensor) -> bool:
        """Whether the network draws random numbers, found with the first batch, whose shapes are checked too."""
        if self._uses_rng is None:
            with self._context():
                scores, self._uses_rng = self._attributes.ignore_changed_by(lambda: tried(self._objective, features))
            check_shapes(self._objective.loss, scores, target)
        return self._uses_rng

    def with_precomputed_grad(self, batch: Batch, world: int, window: int) -> Tensor:
        """Return a value whose backward pass gives each parameter this rank's part of the gradient."""
        with torch.no_grad():
            value, gradients = self._call(batch, world * window, window / batch.micro_batches)
        return with_precomputed_grad(value, gradients, self._parameters)

    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Write this rank's part of the gradient to the parameters' `grad`."""
        _, gradients = self._call(batch, world, 1.0)
        if self._places is None:
            for parameter, gradient in zip(self._parameters, gradients, strict=True):
                parameter.grad = gradient
        else:
            for place, gradient in zip(self._places, gradients, strict=True):
                place.copy_(gradient)

    def _call(self, batch: Batch, times: int, share: float) -> tuple[Tensor, Sequence[Tensor]]:
        target, weight = batch.target, batch.weight
        self.uses_rng(batch.features, target)
        features, self._spec = tree_flatten(batch.features)
        scale = factors(self._objective, batch.samples, times, share, weight)
        tensors = (*features, target, weight, scale)
        key = (str(self._spec), layout(tensors), self._attributes.version)
        here = (*self._parameters, *self._buffers)
        value, weighted, *found = self._graph(key, f"a step of {len(target)} rows", *here, *tensors)
        gradients, buffers = found[: len(self._parameters)], found[len(self._parameters) :]
        for buffer, after in zip(self._buffers, buffers, strict=True):
            buffer.copy_(after)
        self._losses.add(weighted, len(target))
        return value, gradients

    def _flat_gradient(self, *tensors: Tensor) -> list[Tensor]:
        first, last = len(self._parameters), len(self._parameters) + len(self._buffers)
        *features, target, weight, scale = tensors[last:]
        nest = tree_unflatten(features, self._spec)
        value, weighted, gradients, buffers = self._function(
            list(tensors[:first]), list(tensors[first:last]), nest, target, weight, scale
        )
        # autograd's are contiguous, too, and an update is compiled for one layout
        return [value, weighted, *(gradient.contiguous() for gradient in gradients), *buffers]
