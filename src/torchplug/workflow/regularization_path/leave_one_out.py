r"""Leave-one-out and generalized cross-validation of ridge regression, exactly and without refitting.

    eᵢ = rᵢ / (1 − hᵢ),    h = diag H,    H = wᵢᵗʰ rows of X̃(X̃ᵀX̃ + μᵢP)⁻¹X̃ᵀ

One singular value decomposition of the centred rows serves all λ. Symbols: n rows, weights w of mean 1, c what the
training objective multiplies the sum of squares by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchplug.objective.least_squares import LeastSquares
from torchplug.workflow.regularization_path.penalty import SlopeStrengths
from torchplug.workflow.regularization_path.problem import Problem

_NUMBERS = 2**22
"""How many errors are held at once."""


@dataclass(frozen=True)
class LeftOut:
    """Estimates for each λ, in units of the loss.

    Args:
        mean: the loss of each row by the model of all others, on average.
        error: the standard error of this mean.
        gcv: generalized cross-validation.
    """

    mean: list[float]
    error: list[float]
    gcv: list[float]


def factorized(problem: Problem, strengths: SlopeStrengths | None) -> LeastSquares | None:
    """The rows of ridge regression; None for other models."""
    if strengths is None or any(strengths.l1) or problem.objective.reduction != "mean":
        return None
    return problem.least_squares("qr")


def left_out(problem: Problem, strengths: SlopeStrengths | None) -> LeftOut | None:
    r"""Estimate the loss of unseen rows from all rows; None for models that are not ridge regression.

    Leaving a row out is what F is without it: the mean of the remaining losses, their weights scaled to mean 1, and
    the same λ. Preprocessing stays that of all rows.

        hᵢ = wᵢ (1/n + x̃ᵢᵀ V (S² + μᵢ)⁻¹ Vᵀ x̃ᵢ),    μᵢ = λ (n − wᵢ)/(cn)
        GCV = (1/n) Σ wᵢrᵢ² / (1 − tr H/n)²,    with μ = λ/c

    Args:
        problem: of all rows.
        strengths: of the penalties along the path.

    Reference: Golub, Heath and Wahba (1979), doi:10.1080/00401706.1979.10489751.
    """
    design = factorized(problem, strengths)
    if strengths is None or design is None:
        return None
    rows = problem.training.read(0, design.samples)
    share = (rows.weight / len(rows.weight))[:, None] if design.intercept else torch.zeros_like(rows.weight)[:, None]
    root = rows.weight.sqrt()[:, None]
    centred, target = (root * (part - (share * part).sum(dim=0)) for part in (rows.features, rows.target))
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    known = values > torch.finfo(values.dtype).eps * max(centred.shape) * values.max()
    system = _System(left[:, known], values[known].square(), target, share, rows.weight, design.scale)
    ridge = rows.weight.new_tensor(strengths.l2) / design.scale
    found = torch.cat([system.at(some) for some in torch.split(ridge, max(1, _NUMBERS // len(rows.weight)))])
    return LeftOut(*found.T.tolist())


@dataclass(frozen=True, eq=False)
class _System:
    """Rows decomposed: U (n, r), S² (r,), √w(Y − ȳ) (n, k), the intercept's part of h (n, 1), w (n,), c."""

    left: Tensor
    squares: Tensor
    target: Tensor
    share: Tensor
    weight: Tensor
    scale: float

    def at(self, ridge: Tensor) -> Tensor:
        """Mean, standard error and generalized cross-validation (L, 3) for each μ = λ/c (L,)."""
        n = len(self.weight)
        losses = self.scale * n * self._left_out(ridge)  # (L, n), weighted
        kept = self.squares / (self.squares + ridge[:, None])
        effective = kept.sum(dim=1) + self.share.sum()
        pull = self.left.mT @ self.target
        outside = (self.target - self.left @ pull).square().sum()
        squares = outside + ((1.0 - kept).square() @ pull.square()).sum(dim=1)
        generalized = torch.where(effective < n, self.scale * squares / (1.0 - effective / n).square(), torch.nan)
        return torch.stack([losses.mean(dim=1), losses.std(dim=1) / math.sqrt(n), generalized], dim=1)

    def _left_out(self, ridge: Tensor) -> Tensor:
        """Weighted squared errors (L, n), each row's by the model of all others."""
        n, pull = len(self.weight), self.left.mT @ self.target
        if bool((self.weight == 1.0).all()):
            kept = self.squares / (self.squares + ridge[:, None] * (1.0 - 1.0 / n))
            leverage = kept @ self.left.square().mT + self.share.mT
            residual = self.target.mT - torch.matmul((kept[:, None, :] * pull.mT), self.left.mT)  # (L, k, n)
            return (residual / (1.0 - leverage)[:, None, :]).square().sum(dim=1)
        rest = 1.0 - self.weight / n
        return torch.stack([self._of_weighted(own * rest[:, None], pull) for own in ridge])

    def _of_weighted(self, ridge: Tensor, pull: Tensor) -> Tensor:
        """The same (n,) with a μ for each row (n, 1): what is left weighs differently."""
        kept = self.squares / (self.squares + ridge)
        leverage = (self.left.square() * kept).sum(dim=1, keepdim=True) + self.share
        residual = self.target - (self.left * kept) @ pull
        return (residual / (1.0 - leverage)).square().sum(dim=1)
