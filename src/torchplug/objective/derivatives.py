"""Loss, residuals and their derivatives on some rows: by the chain rule written out, else by autograd.

Sums are over rows and weighted, not yet divided by n. Flat vectors (p,) follow the parameters' order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from torchplug.batch import Rows
from torchplug.chain import Chain
from torchplug.components.contracts import Loss, implements
from torchplug.objective.autograd import flat_gradient, vector_products
from torchplug.objective.least_squares import LinearMap

_GRAM_SPEED = 50
"""About how many times more operations a second a product of matrices makes than one with a vector."""


@contextmanager
def deterministic_eval(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and full precision; then every layer is back in the mode it had.

    The closure of a step may run under autocast and its trials would not: solvers stall on the difference.
    """
    device = next((p.device.type for p in network.parameters()), "cpu")
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        for module in training:
            module.training = True


class LeastSquares(NamedTuple):
    """A single linear map with a squared loss: residuals c([1 x] Θ − y).

    Args:
        map: its sizes.
        slope: c.
    """

    map: LinearMap
    slope: float


class Derivatives(ABC):
    """What the whole-set objective sums over blocks of rows.

    Args:
        network: gives scores (m, k) from features.
        loss: gives a value per sample.
        parameters: the trainable ones of both, in the order of the flat vector.
    """

    width: int
    """The most numbers that a row turns into on the way through the network."""
    is_chain: bool
    """Whether the network is a chain of linear maps and activations."""

    def __init__(self, network: nn.Module, loss: Loss, parameters: Sequence[nn.Parameter]) -> None:
        self.network = network
        self.loss = loss
        self.parameters = list(parameters)
        self.size = sum(p.numel() for p in parameters)

    @abstractmethod
    def value(self, rows: Rows) -> Tensor:
        """Σ wℓ."""

    @abstractmethod
    def value_and_gradient(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Σ wℓ and its gradient (p,)."""

    @abstractmethod
    def residual_jacobian(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """J (m·q, p) and r (m·q,) with Σ wℓ = Σ r²; the rows are √w times the loss's residuals."""

    @abstractmethod
    def hvp(self, rows: Rows, vector: Tensor) -> Tensor:
        """∇²(Σ wℓ) v."""

    @abstractmethod
    def gnvp(self, rows: Rows, vector: Tensor) -> Tensor:
        """JᵀJ v."""

    @abstractmethod
    def hessian(self, rows: Rows, dtype: torch.dtype, subset: Tensor | None) -> Tensor:
        """∇²(Σ wℓ) (p, p), or of the elements `subset` (s,) of θ alone (s, s), whose indices increase.

        `dtype` is that of the products it is summed from, where there is a choice.
        """

    @property
    def linear_map(self) -> LinearMap | None:
        """The network as a single linear map, all of which is trained; None if it is no such map."""
        return None

    @property
    def least_squares(self) -> LeastSquares | None:
        """The problem as one of linear least squares, if it is one."""
        return None

    @property
    def hessian_cost(self) -> float:
        """About how many gradients can be computed in the time of a Hessian: a product with it costs two."""
        return 2.0 * self.size

    def scores(self, rows: Rows) -> Tensor:
        """The network's scores (m, k)."""
        with torch.no_grad(), deterministic_eval(self.network):
            scores: Tensor = self.network(rows.features)
        return scores

    def score_jacobian(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """∂z/∂θ (m·k, p) and z (m·k,); of the network's parameters alone."""
        with deterministic_eval(self.network):
            jacobian, scores = _per_row(self.network, (rows.features,))
        return jacobian.flatten(0, 1), scores.flatten()

    def score_moments(self, rows: Rows) -> Tensor:
        """Σ w Jᵀs, Σ w J² and Σ w s² (2p + 1,), with J = ∂z/∂θ and s = ∂ℓ/∂z."""
        jacobian, scores = self.score_jacobian(rows)
        slope = _score_derivative(self.loss, scores.view(len(rows.weight), -1), rows.target)
        weight = rows.weight[:, None].expand_as(slope).reshape(-1)
        s = slope.reshape(-1)
        sums = [(weight * s) @ jacobian, weight @ jacobian.square(), (weight @ s.square()).reshape(1)]
        return torch.cat(sums)


class ByAutograd(Derivatives):
    """For any network and loss."""

    width = 256
    is_chain = False

    def value(self, rows: Rows) -> Tensor:
        """Σ wℓ."""
        with torch.no_grad():
            return self._value(rows)

    def value_and_gradient(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Σ wℓ and its gradient (p,)."""
        with torch.enable_grad():
            value = self._value(rows)
            return value.detach(), self._gradient(value)

    def residual_jacobian(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """J and r, a row's derivatives at a time."""
        pair = _Residuals(self.network, self.loss)
        with deterministic_eval(self.network):
            jacobian, r = _per_row(pair, (rows.features, rows.target))
        root = rows.weight.sqrt()[:, None]
        return (jacobian * root[:, :, None]).flatten(0, 1), (r * root).flatten()

    def hvp(self, rows: Rows, vector: Tensor) -> Tensor:
        """∇²(Σ wℓ) v, by differentiating the gradient once more."""
        with torch.enable_grad():
            return self._gradient(self._gradient(self._value(rows), create_graph=True) @ vector)

    def gnvp(self, rows: Rows, vector: Tensor) -> Tensor:
        """JᵀJ v, without J."""
        with torch.enable_grad(), deterministic_eval(self.network):
            scores = self.network(rows.features)
            residuals = self.loss.residuals(scores, rows.target) * rows.weight.sqrt()[:, None]  # type: ignore[operator]
            # Jᵀu is linear in u: its derivative along v is J v
            u = torch.zeros_like(residuals, requires_grad=True)
            (along,) = torch.autograd.grad(self._gradient((residuals * u).sum(), create_graph=True) @ vector, u)
            return self._gradient((residuals * along).sum())

    def hessian(self, rows: Rows, dtype: torch.dtype, subset: Tensor | None) -> Tensor:
        """∇²(Σ wℓ) (p, p) or (s, s), several columns at a time."""
        with torch.enable_grad():
            gradient = self._gradient(self._value(rows), create_graph=True)
            identity = torch.eye(self.size, dtype=gradient.dtype, device=gradient.device)
            if subset is None:
                return vector_products(gradient, self.parameters, identity)
            return vector_products(gradient, self.parameters, identity[subset])[:, subset]

    def _value(self, rows: Rows) -> Tensor:
        with deterministic_eval(self.network):
            values: Tensor = self.loss(self.network(rows.features), rows.target)
        return (values * rows.weight).sum()

    def _gradient(self, value: Tensor, create_graph: bool = False) -> Tensor:
        return flat_gradient(value, self.parameters, create_graph)


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
        derivative = _score_derivative(self.loss, scores, rows.target) * rows.weight[:, None]
        # no dot product: it would wait for all threads, at each block
        return (values * rows.weight).sum(), self._back(tape, derivative)

    @torch.no_grad()
    def residual_jacobian(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """J and r; where a residual is the error of its own output, J is that of the scores."""
        scores, tape = self.chain.forward(rows.features)
        residuals, slope = _residuals_and_slope(self.loss, scores, rows.target)
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
        _, slope = _residuals_and_slope(self.loss, scores, rows.target)
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
    def least_squares(self) -> LeastSquares | None:
        """The problem as one of linear least squares, if it is one."""
        linear_map = self.linear_map
        if linear_map is None or not implements(self.loss, "residuals"):
            return None
        slope = _residual_slope(self.loss, self.parameters[0].new_ones(1, linear_map.outputs))
        return None if slope is None else LeastSquares(linear_map, slope)

    @property
    def _linear(self) -> bool:
        return self._is_one_map and implements(self.loss, "curvature")

    @property
    def _is_one_map(self) -> bool:
        """Whether scores are linear in the parameters, all of which are trained."""
        return self.chain.is_linear and all(p.requires_grad for p in self.network.parameters())

    def _back(self, tape: Any, derivative: Tensor) -> Tensor:
        return torch.cat([g.reshape(-1) for g in self.chain.backward(tape, derivative)])


def _per_row(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
    """The derivatives (m, q, p) of a module's outputs by its trainable parameters, and the outputs (m, q)."""
    plain = {name: p.detach() for name, p in module.named_parameters() if p.requires_grad}

    def outputs(values: dict[str, Tensor], row: tuple[Any, ...]) -> tuple[Tensor, Tensor]:
        one = tree_map(lambda leaf: leaf.unsqueeze(0), row)
        given: Tensor = torch.func.functional_call(module, values, one)[0]
        return given, given

    blocks, values = torch.func.vmap(torch.func.jacrev(outputs, has_aux=True), (None, 0))(plain, inputs)
    return torch.cat([block.reshape(*values.shape, -1) for block in blocks.values()], dim=2), values


class _Residuals(nn.Module):
    """Network and loss as one module, so that the parameters of both have names."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network = network
        self.loss = loss

    def forward(self, features: Any, target: Tensor) -> Tensor:
        """The loss's residuals (m, q)."""
        residuals: Tensor = self.loss.residuals(self.network(features), target)  # type: ignore[operator]
        return residuals


@torch.no_grad()
def _residual_slope(loss: Loss, ones: Tensor) -> float | None:
    """c, if the residuals are c(z − y): tried at a few points."""
    slope = float(loss.residuals(ones, 0.0 * ones)[0, 0])  # type: ignore[operator]
    for z, y in ((ones, 0.0 * ones), (0.0 * ones, ones), (2.5 * ones, -0.5 * ones), (ones, ones)):
        expected = slope * (z - y)
        residuals = loss.residuals(z, y)  # type: ignore[operator]
        if residuals.shape != z.shape or not torch.allclose(residuals, expected, rtol=1e-12, atol=0.0):
            return None
    return slope


def _times(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.bmm(matrices, vectors.unsqueeze(2)).squeeze(2)


def _score_derivative(loss: Loss, scores: Tensor, target: Tensor) -> Tensor:
    """∂ℓ/∂z (m, k), by the loss itself where it can."""
    if implements(loss, "derivative"):
        derivative: Tensor = loss.derivative(scores, target)  # type: ignore[operator]
        return derivative
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        return torch.autograd.grad(loss(scores, target).sum(), scores)[0]


def _residuals_and_slope(loss: Loss, scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The residuals r (m, q), and ∂r/∂z: (m, k) where each depends on its own score alone, else (m, q, k)."""
    with torch.enable_grad():
        scores = scores.detach().requires_grad_()
        residuals = loss.residuals(scores, target)  # type: ignore[operator]
        outputs = range(residuals.shape[1])
        slopes = [torch.autograd.grad(residuals[:, j].sum(), scores, retain_graph=True)[0] for j in outputs]
    slope = torch.stack(slopes, dim=1)
    if slope.shape[1] == slope.shape[2]:
        own = slope.diagonal(dim1=1, dim2=2)
        if slope.shape[1] == 1 or bool((slope == torch.diag_embed(own)).all()):
            return residuals.detach(), own
    return residuals.detach(), slope


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
