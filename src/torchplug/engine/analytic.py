"""Analytic gradients of chains of linear maps and activations."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchplug.batch import Batch
from torchplug.chain import Chain
from torchplug.components.contracts import implements
from torchplug.engine.contract import GradientEngine
from torchplug.engine.precomputed import with_precomputed_grad
from torchplug.no_grad import unwrapped
from torchplug.objective import StepObjective, check_shapes, total_penalty

FULL_PRECISION = ("32-true", "64-true")
"""Precisions in which a network computes in its parameters' dtype, as Lightning spells them."""

_BLOCK_NUMBERS, _LEAST_BLOCK_ROWS = 2**18, 1024
"""On a CPU, numbers of a layer's output per block, so that they fit into its cache, and the least rows of a block, so
that a pass over the gradient pays."""


def why_not_analytic(objective: StepObjective, precision: str) -> str | None:
    """Return why there is no analytic gradient; None if there is one.

    Args:
        objective: F on a minibatch.
        precision: the trainer's precision, as Lightning spells it.
    """
    chain = Chain.of(objective.network)
    loss = type(objective.loss).__name__
    if chain is None:
        return "the network is no chain of linear maps and activations"
    if chain.dropout:
        return "the network drops units at random"
    if precision not in FULL_PRECISION:
        return f"precision {precision} rounds within the network"
    if not implements(objective.loss, "derivative"):
        return f"the loss {loss} has no derivative written out"
    if any(p.requires_grad for p in objective.loss.parameters()):
        return f"the loss {loss} has parameters of its own"
    return None


class Analytic(GradientEngine):
    """Forward and backward pass through a chain without a graph, where `why_not_analytic` is None."""

    name = "analytic"

    def _prepare(self) -> None:
        objective, storage = self._objective, self._storage
        assert storage is not None, "analytic gradients need a flat storage"
        chain = Chain.of(objective.network)
        assert chain is not None
        self._forward, self._backward = unwrapped(chain.forward), unwrapped(chain.backward)
        self._parameters = chain.trainable()
        self._fresh_places = partial(storage.gradients, self._parameters, fresh=True)
        self._places = storage.gradients(self._parameters)
        self._divides = objective.reduction == "mean"
        self._derivative: Any = objective.loss.derivative
        self._penalties = [(r, named) for r, named in objective.penalties if not r.proximal]
        self._scales: dict[tuple[int, int], Tensor] = {}
        self._checked = False
        on_cpu = storage.values.device.type == "cpu"
        self._block_rows = max(_LEAST_BLOCK_ROWS, _BLOCK_NUMBERS // chain.width) if on_cpu else sys.maxsize

    def with_precomputed_grad(self, batch: Batch, world: int, window: int) -> Tensor:
        """Return a value whose backward pass gives each parameter this rank's part of the gradient."""
        with torch.no_grad():
            uniform = bool((batch.weight == 1).all())
            gradients = self._fresh_places()
            scores = self._pass(batch, world * window, uniform, gradients)
            share = window / batch.micro_batches
            self._add_penalties(share, gradients)
            weighted = (self._objective.loss(scores, batch.target) * batch.weight).sum()
            value = weighted * self._scale(batch, world * window, scores)
            if self._penalties:
                value = value + total_penalty(self._penalties) * share
        return with_precomputed_grad(value, gradients, self._parameters)

    def gradient(self, batch: Batch, world: int, uniform: bool) -> None:
        """Write this rank's part of the gradient to the parameters' `grad`; called under `no_grad`."""
        if self._context is nullcontext:  # entering even nullcontext takes time
            self._pass(batch, world, uniform, self._places)
        else:
            with self._context():
                self._pass(batch, world, uniform, self._places)
        if self._penalties:
            self._add_penalties(1.0, self._places)

    def _pass(self, batch: Batch, times: int, uniform: bool, places: Sequence[Tensor]) -> Tensor:
        """Write the data term's gradient to `places` without a graph; return the scores."""
        rows = batch.target.shape[0]
        if rows <= self._block_rows:
            return self._pass_block(batch, times, uniform, places)
        scores: list[Tensor] = []
        gradients = self._fresh_places()
        blocks = (torch.split(each, self._block_rows) for each in (batch.features, batch.target, batch.weight))
        for features, target, weight in zip(*blocks, strict=True):
            block = batch._replace(features=features, target=target, weight=weight)
            scores.append(self._pass_block(block, times, uniform, gradients if scores else places))
            if len(scores) > 1:
                torch._foreach_add_(list(places), gradients)
        return torch.cat(scores)

    def _pass_block(self, batch: Batch, times: int, uniform: bool, places: Sequence[Tensor]) -> Tensor:
        """Write the gradient of a block of rows, which stays in the processor's cache; return the scores."""
        features, target, weight = batch.features, batch.target, batch.weight
        scores, tape = self._forward(features)
        if not self._checked:
            check_shapes(self._objective.loss, scores, target)
            self._checked = True
        scale = self._scale(batch, times, scores)
        derivative = self._derivative(scores, target) * (scale if uniform else (weight * scale).unsqueeze(1))
        self._losses.defer(scores, target, None if uniform else weight)
        self._backward(tape, derivative, places)
        return scores

    def _scale(self, batch: Batch, times: int, like: Tensor) -> Tensor:
        """Return the factor of Σ wℓ as a tensor: a product with a Python number takes twice as long."""
        key = (batch.samples, times)
        if key not in self._scales:
            self._scales[key] = like.new_tensor(times / batch.samples if self._divides else times)
        return self._scales[key]

    def _add_penalties(self, share: float, places: Sequence[Tensor]) -> None:
        """Add ∇ΣλR, analytic where the regularizer has `derivative`."""
        place_of = {id(p): place for p, place in zip(self._parameters, places, strict=True)}
        for regularizer, named in self._penalties:
            if not named:
                continue
            factor = regularizer.coefficient * share
            if implements(regularizer, "derivative"):
                derivatives = regularizer.derivative(named)  # type: ignore[operator]
            else:
                with torch.enable_grad():
                    found = torch.autograd.grad(regularizer(named), list(named.values()), allow_unused=True)
                derivatives = {n: g for n, g in zip(named, found, strict=True) if g is not None}
            for name, derivative in derivatives.items():
                place_of[id(named[name])].add_(derivative, alpha=factor)
