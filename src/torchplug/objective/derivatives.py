"""Loss, residuals and their derivatives on some rows: what the full-batch objective asks.

Sums are over rows and weighted, not yet divided by n. Flat vectors (p,) follow the parameters' order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torchplug.batch import Rows
from torchplug.components.contracts import Loss
from torchplug.objective.autograd import per_row_jacobian
from torchplug.objective.deterministic_eval import deterministic_eval
from torchplug.objective.least_squares import LinearMap
from torchplug.objective.loss_derivatives import score_derivative


class LinearResiduals(NamedTuple):
    """The residuals of a single linear map with a squared loss: c([1 x] Θ − y).

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
    def linear_residuals(self) -> LinearResiduals | None:
        """The residuals as linear in the parameters, for linear least squares; None if they are not."""
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
            jacobian, scores = per_row_jacobian(self.network, (rows.features,))
        return jacobian.flatten(0, 1), scores.flatten()

    def score_moments(self, rows: Rows) -> Tensor:
        """Σ w Jᵀs, Σ w J² and Σ w s² (2p + 1,), with J = ∂z/∂θ and s = ∂ℓ/∂z."""
        jacobian, scores = self.score_jacobian(rows)
        slope = score_derivative(self.loss, scores.view(len(rows.weight), -1), rows.target)
        weight = rows.weight[:, None].expand_as(slope).reshape(-1)
        s = slope.reshape(-1)
        sums = [(weight * s) @ jacobian, weight @ jacobian.square(), (weight @ s.square()).reshape(1)]
        return torch.cat(sums)
