"""Regularizers, with their proximal operators.

λ acts on the coefficients in training, that is on the features as the data module scales them.
F = (1/n) Σ wᵢ ℓᵢ + Σ λR, so the meaning of λ does not depend on n.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torchplug.components.contracts import Regularizer
from torchplug.components.validate import non_negative


class L2(Regularizer):
    r"""Sum of squares (ridge): shrinks coefficients towards zero without reaching it.

        λR(θ) = λ Σ θ²

    Args:
        coefficient: λ ≥ 0, in units of the loss per squared unit of θ.
        include: glob patterns of the names of parameters to act on, or of what follows a dot in them; None: all but
            biases and normalization layers.

    Shape:
        {name: parameter} → (), a scalar.

    Raises:
        ValueError: if coefficient is negative or not finite, or `include` is empty.

    Reference: Hoerl and Kennard (1970), doi:10.1080/00401706.1970.10488634.
    Note: torch's weight_decay is 2λ; scikit-learn's Ridge alpha is nλ with the loss `mse`, and the C
    of its LogisticRegression is 1/(2nλ).
    """

    elementwise = True
    hyper = ("coefficient",)

    def __init__(self, coefficient: float = 1e-4, include: list[str] | None = None) -> None:
        super().__init__()
        non_negative(coefficient=coefficient)
        self.coefficient = coefficient
        self.include = _patterns(include)

    def forward(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Σ θ² over all the parameters."""
        return _total([parameter.square().sum() for parameter in parameters.values()])

    def derivative(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂R/∂θ = 2θ, by name."""
        return {name: parameter * 2.0 for name, parameter in parameters.items()}

    def curvature(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂²R/∂θ² = 2, elementwise, by name."""
        return {name: torch.full_like(parameter, 2.0) for name, parameter in parameters.items()}

    def residuals(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """√λ θ by name: the squares sum to λR."""
        return {name: parameter * self.coefficient**0.5 for name, parameter in parameters.items()}


class L1(Regularizer):
    r"""Sum of magnitudes (lasso): promotes coefficients that are exactly zero.

        λR(θ) = λ Σ |θ|

    Args:
        coefficient: λ ≥ 0, in units of the loss per unit of θ.
        proximal: False adds λR to the loss, with subgradient 0 at zero: coefficients oscillate around
            zero. True applies the proximal operator in the optimizer's step, which gives exact zeros.
        include: glob patterns of the names of parameters to act on, or of what follows a dot in them; None: all but
            biases and normalization layers.

    Shape:
        {name: parameter} → (), a scalar.

    Raises:
        ValueError: if coefficient is negative or not finite, or `include` is empty.

    Reference: Tibshirani (1996), doi:10.1111/j.2517-6161.1996.tb02080.x.
    Note: with the loss `mse`, which has no factor ½, scikit-learn's Lasso alpha is λ/2.
    """

    smooth = False
    elementwise = True
    hyper = ("coefficient",)

    def __init__(self, coefficient: float = 1e-4, proximal: bool = False, include: list[str] | None = None) -> None:
        super().__init__()
        non_negative(coefficient=coefficient)
        self.coefficient = coefficient
        self.proximal = proximal
        self.include = _patterns(include)

    def forward(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Σ |θ| over all the parameters."""
        return _total([parameter.abs().sum() for parameter in parameters.values()])

    def derivative(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂R/∂θ = sign(θ), 0 at zero, by name."""
        return {name: parameter.sign() for name, parameter in parameters.items()}

    def prox(self, parameter: Tensor, step: Tensor | float) -> Tensor:
        """Soft threshold: sign(θ) max(|θ| − step·λ, 0)."""
        return _soft_threshold(parameter, step * self.coefficient)


class ElasticNet(Regularizer):
    r"""Sum of magnitudes and of squares: sparse, but stable for correlated features.

        λR(θ) = λ₁ Σ |θ| + λ₂ Σ θ²

    Args:
        l1: λ₁ ≥ 0, in units of the loss per unit of θ.
        l2: λ₂ ≥ 0, in units of the loss per squared unit of θ.
        proximal: False adds λR to the loss, with subgradient 0 at zero; True applies the proximal
            operator in the optimizer's step, which gives exact zeros.
        include: glob patterns of the names of parameters to act on, or of what follows a dot in them; None: all but
            biases and normalization layers.

    Shape:
        {name: parameter} → (), a scalar.

    Raises:
        ValueError: if l1 or l2 is negative or not finite, or `include` is empty.

    Reference: Zou and Hastie (2005), doi:10.1111/j.1467-9868.2005.00503.x.
    Note: with the loss `mse`, scikit-learn's ElasticNet has alpha·l1_ratio = λ₁/2 and
    alpha·(1 − l1_ratio) = λ₂.
    """

    smooth = False
    elementwise = True
    hyper = ("l1", "l2")

    def __init__(
        self, l1: float = 1e-4, l2: float = 1e-4, proximal: bool = False, include: list[str] | None = None
    ) -> None:
        super().__init__()
        non_negative(l1=l1, l2=l2)
        self.l1 = l1
        self.l2 = l2
        self.proximal = proximal
        self.include = _patterns(include)

    def forward(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """λ₁ Σ |θ| + λ₂ Σ θ² over all the parameters."""
        return _total([self.l1 * p.abs().sum() + self.l2 * p.square().sum() for p in parameters.values()])

    def derivative(self, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """∂R/∂θ = λ₁ sign(θ) + 2λ₂θ, with sign(0) = 0, by name."""
        return {name: p.sign() * self.l1 + p * (2.0 * self.l2) for name, p in parameters.items()}

    def prox(self, parameter: Tensor, step: Tensor | float) -> Tensor:
        """Soft threshold by step·λ₁, then division by 1 + 2·step·λ₂."""
        return _soft_threshold(parameter, step * self.l1) / (1.0 + 2.0 * self.l2 * step)


def _soft_threshold(parameter: Tensor, threshold: Tensor | float) -> Tensor:
    # As a sum of two one-sided parts, zeros are +0; sign(θ)·0 would give −0.
    return (parameter - threshold).clamp(min=0.0) + (parameter + threshold).clamp(max=0.0)


def _total(terms: list[Tensor]) -> Tensor:
    return torch.stack(terms).sum() if terms else torch.zeros(())


def _patterns(include: list[str] | None) -> list[str] | None:
    if include is not None and not include:
        raise ValueError("include must list at least one pattern of parameter names, or be left out")
    return include
