"""Derivatives by the chain rule written out, of chains of linear maps and activations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.batch import Rows
from torchplug.chain import Chain
from torchplug.components.contracts import Loss, implements
from torchplug.errors import ConfigurationError
from torchplug.objective.autograd_derivatives import ByAutograd
from torchplug.objective.derivatives import Derivatives, LinearResiduals
from torchplug.objective.least_squares import LinearMap
from torchplug.objective.loss_derivatives import residual_slope, residuals_and_slope, score_derivative

_GRAM_SPEED = 50
"""About how many times more operations a second a product of matrices makes than one with a vector."""


def derivatives_of(network: nn.Module, loss: Loss, parameters: Sequence[nn.Parameter]) -> Derivatives:
    """Derivatives by the chain rule written out where network and loss allow, else by autograd.

    Raises:
        ConfigurationError: if there are no parameters.
    """
    if not parameters:
        raise ConfigurationError("the network has no trainable parameter")
    chain = None if any(True for _ in loss.parameters()) else Chain.of(network)
    return ByAutograd(network, loss, parameters) if chain is None else Analytic(chain, network, loss, parameters)


class Analytic(Derivatives):
    """For chains of linear maps and activations, and losses without parameters of their own."""

    is_chain = True

    def __init__(self, chain: Chain, network: nn.Module, loss: Loss, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(network, loss, parameters)
        self.chain = chain
        self.width = chain.width
        self._autograd = ByAutograd(network, loss, parameters)

    @torch.no_grad()
    def value(self, rows: Rows) -> Tensor:
        """Σ wℓ."""
        scores, _ = self.chain.forward(rows.features)
        values: Tensor = self.loss(scores, rows.target)
        return (values * rows.weight).sum()

    @torch.no_grad()
    def value_and_gradient(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Σ wℓ and its gradient (p,)."""
        scores, tape = self.chain.forward(rows.features)
        values: Tensor = self.loss(scores, rows.target)
        derivative = score_derivative(self.loss, scores, rows.target) * rows.weight[:, None]
        # no dot product: it would wait for all threads, at each block
        return (values * rows.weight).sum(), self._back(tape, derivative)

    @torch.no_grad()
    def residual_jacobian(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """J and r; where a residual is the error of its own output, J is that of the scores."""
        scores, tape = self.chain.forward(rows.features)
        residuals, slope = residuals_and_slope(self.loss, scores, rows.target)
        root = rows.weight.sqrt()[:, None]
        jacobian = self.chain.jacobian(tape)
        if slope.ndim == 2:
            scale = slope * root
            if not bool((scale == 1.0).all()):
                jacobian.mul_(scale[:, :, None])
        else:
            jacobian = torch.bmm(slope * root[:, :, None], jacobian)
        return jacobian.flatten(0, 1), (residuals * root).flatten()

    @torch.no_grad()
    def hvp(self, rows: Rows, vector: Tensor) -> Tensor:
        """∇²(Σ wℓ) v; scores that are linear in the parameters leave only the loss's own curvature."""
        if not self._linear:
            return self._autograd.hvp(rows, vector)
        scores, tape = self.chain.forward(rows.features)
        curvature = self.loss.curvature(scores, rows.target) * rows.weight[:, None, None]  # type: ignore[operator]
        return self._back(tape, _times(curvature, self.chain.jvp(tape, vector)))

    @torch.no_grad()
    def gnvp(self, rows: Rows, vector: Tensor) -> Tensor:
        """JᵀJ v, without J."""
        scores, tape = self.chain.forward(rows.features)
        _, slope = residuals_and_slope(self.loss, scores, rows.target)
        along = self.chain.jvp(tape, vector)
        if slope.ndim == 2:
            return self._back(tape, along * slope.square() * rows.weight[:, None])
        return self._back(tape, _times(slope.mT, _times(slope, along)) * rows.weight[:, None])

    @torch.no_grad()
    def hessian(self, rows: Rows, dtype: torch.dtype, subset: Tensor | None) -> Tensor:
        """∇²(Σ wℓ) (p, p) or (s, s): products of the features where scores are linear in the parameters."""
        if not self._linear:
            return self._autograd.hessian(rows, dtype, subset)
        scores, _ = self.chain.forward(rows.features)
        curvature = self.loss.curvature(scores, rows.target) * rows.weight[:, None, None]  # type: ignore[operator]
        return _weighted_gram(rows.features, curvature, dtype, len(self.parameters) == 2, subset)

    @property
    def hessian_cost(self) -> float:
        """Less where it is a product of matrices: that is bound by arithmetic, and a gradient by memory."""
        return 1.0 + self.size / _GRAM_SPEED if self._linear else super().hessian_cost

    @property
    def linear_map(self) -> LinearMap | None:
        """The network as a single linear map, all of which is trained; None if it is no such map."""
        if not self._is_one_map:
            return None
        outputs, features = self.parameters[0].shape
        return LinearMap(len(self.parameters) == 2, features, outputs)

    @property
    def linear_residuals(self) -> LinearResiduals | None:
        """The residuals as linear in the parameters, for linear least squares; None if they are not."""
        linear_map = self.linear_map
        if linear_map is None or not implements(self.loss, "residuals"):
            return None
        slope = residual_slope(self.loss, self.parameters[0].new_ones(1, linear_map.outputs))
        return None if slope is None else LinearResiduals(linear_map, slope)

    @property
    def _linear(self) -> bool:
        return self._is_one_map and implements(self.loss, "curvature")

    @property
    def _is_one_map(self) -> bool:
        """Whether scores are linear in the parameters, all of which are trained."""
        return self.chain.is_linear and all(p.requires_grad for p in self.network.parameters())

    def _back(self, tape: Any, derivative: Tensor) -> Tensor:
        return torch.cat([g.reshape(-1) for g in self.chain.backward(tape, derivative)])


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.bmm(matrices, vectors.unsqueeze(2)).squeeze(2)


def _weighted_gram(
    features: Tensor, curvature: Tensor, dtype: torch.dtype, has_bias: bool, subset: Tensor | None
) -> Tensor:
    """Σ over rows of the products of [x 1] with the curvature (m, k, k), in the order weights (k, d), biases (k)."""
    k, d = curvature.shape[1], features.shape[1]
    ends = [*range(0, k * d + 1, d), k * d + k * has_bias]
    chosen: list[slice | Tensor] = [slice(None)] * (k + 1)
    if subset is not None:
        starts, ends = ends, torch.searchsorted(subset.contiguous(), torch.tensor(ends, device=subset.device)).tolist()
        chosen = [subset[a:b] - start for (a, b), start in zip(pairwise(ends), starts, strict=False)]
    at = [slice(a, b) for a, b in pairwise(ends)]
    columns = [features[:, part] for part in chosen[:k]]
    result = features.new_empty(ends[-1], ends[-1])
    for i in range(k):
        for j in range(i, k):
            block = _product(columns[i], curvature[:, i, j], columns[j], dtype)
            result[at[i], at[j]] = block
            if i < j:
                result[at[j], at[i]] = block.mT
    if has_bias:
        of_biases = curvature[:, :, chosen[k]]
        result[at[k], at[k]] = of_biases.sum(0)[chosen[k]]
        for i in range(k):
            block = columns[i].mT @ of_biases[:, i]
            result[at[i], at[k]] = block
            result[at[k], at[i]] = block.mT
    return result


def _product(left: Tensor, weight: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Aᵀ diag(weight) B, multiplied in `dtype`."""
    if left is right and bool((weight >= 0).all()):
        # of one matrix with itself, so that the result is symmetric and never indefinite
        scaled = left.to(dtype) * weight.sqrt().to(dtype)[:, None]
        return (scaled.mT @ scaled).to(left.dtype)
    return (left.to(dtype).mT @ (right * weight[:, None]).to(dtype)).to(left.dtype)
