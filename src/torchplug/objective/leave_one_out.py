r"""Errors of ridge regression on rows that are left out one at a time, exactly and without refitting.

    eᵢ = rᵢ / (1 − hᵢ),    hᵢ = wᵢ (1/n + x̃ᵢᵀ V (S² + μᵢ)⁻¹ Vᵀ x̃ᵢ),    μᵢ = μ (1 − wᵢ/n)

for the centred rows √w X̃ = U S Vᵀ. Leaving a row out is what the mean of the losses is without it: the weights of the
others are scaled to mean 1, and λ stays. Symbols: n rows of weights w of mean 1, k outputs, r ≤ d directions.

Reference: Golub, Heath and Wahba (1979), doi:10.1080/00401706.1979.10489751.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DecomposedRows:
    """Some rows of a ridge regression, in the directions of its singular value decomposition.

    Args:
        left: their part of U, (m, r).
        squares: S² (r,), positive.
        target: √w(Y − ȳ), (m, k).
        share: the intercept's part of h, (m, 1): w/n; 0 without intercept.
        weight: w (m,).
        pull: Uᵀ√w(Y − ȳ) of all rows, (r, k).
        samples: n.
    """

    left: Tensor
    squares: Tensor
    target: Tensor
    share: Tensor
    weight: Tensor
    pull: Tensor
    samples: int

    def left_out(self, ridge: Tensor) -> Tensor:
        """Weighted squared errors (L, m) for each μ (L,), each row's by the model of all others."""
        n = self.samples
        if bool((self.weight == 1.0).all()):
            kept = self.squares / (self.squares + ridge[:, None] * (1.0 - 1.0 / n))
            leverage = kept @ self.left.square().mT + self.share.mT
            residual = self.target.mT - torch.matmul((kept[:, None, :] * self.pull.mT), self.left.mT)  # (L, k, m)
            return (residual / (1.0 - leverage)[:, None, :]).square().sum(dim=1)
        rest = 1.0 - self.weight / n
        return torch.stack([self._of_weighted(own * rest[:, None]) for own in ridge])

    def _of_weighted(self, ridge: Tensor) -> Tensor:
        """The errors (m,) with a μ for each row (m, 1): what is left weighs differently."""
        kept = self.squares / (self.squares + ridge)
        leverage = (self.left.square() * kept).sum(dim=1, keepdim=True) + self.share
        residual = self.target - (self.left * kept) @ self.pull
        return (residual / (1.0 - leverage)).square().sum(dim=1)
