"""Derivatives by autograd, of any network and loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from torchplug.batch import Rows
from torchplug.components.contracts import Loss
from torchplug.objective.autograd import flat_gradient, per_row_jacobian, vector_products
from torchplug.objective.derivatives import Derivatives
from torchplug.objective.deterministic_eval import deterministic_eval


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
            jacobian, r = per_row_jacobian(pair, (rows.features, rows.target))
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
