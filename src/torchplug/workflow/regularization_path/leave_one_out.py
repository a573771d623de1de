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

from torchplug.workflow.regularization_path.penalty import SlopeStrengths
from torchplug.workflow.regularization_path.problem import Problem


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
    if strengths is None or any(strengths.l1) or problem.objective.reduction != "mean":
        return None
    design = problem.objective.least_squares("qr")
    if design is None:
        return None
    rows = problem.data.training_set.read(0, design.samples)
    share = (rows.weight / len(rows.weight))[:, None] if design.intercept else torch.zeros_like(rows.weight)[:, None]
    root = rows.weight.sqrt()[:, None]
    centred, target = (root * (part - (share * part).sum(dim=0)) for part in (rows.features, rows.target))
    left, values, _ = torch.linalg.svd(centred, full_matrices=False)
    known = values > torch.finfo(values.dtype).eps * max(centred.shape) * values.max()
    system = _System(left[:, known], values[known].square(), target, share, rows.weight, design.scale)
    found = [system.at(strength) for strength in strengths.l2]
    return LeftOut([own[0] for own in found], [own[1] for own in found], [own[2] for own in found])


@dataclass(frozen=True, eq=False)
class _System:
    """Rows decomposed: U (n, r), S² (r,), √w(Y − ȳ) (n, k), the intercept's part of h (n, 1), w (n,), c."""

    left: Tensor
    squares: Tensor
    target: Tensor
    share: Tensor
    weight: Tensor
    scale: float

    def at(self, strength: float) -> tuple[float, float, float]:
        """Mean, standard error and generalized cross-validation at λ."""
        n, whole = len(self.weight), strength / self.scale
        uniform = bool((self.weight == 1.0).all())
        rest = (1.0 - self.weight[:1] / n) if uniform else (1.0 - self.weight / n)
        residual, leverage = self._fit(whole * rest[:, None])
        errors = residual / (1.0 - leverage)
        losses = self.scale * n * errors.square().sum(dim=1)  # weighted
        residual, leverage = self._fit(self.weight.new_full((1, 1), whole))
        effective = float(leverage.sum())
        gcv = self.scale * float(residual.square().sum()) / (1.0 - effective / n) ** 2 if effective < n else math.nan
        return float(losses.mean()), float(losses.std()) / math.sqrt(n), gcv

    def _fit(self, ridge: Tensor) -> tuple[Tensor, Tensor]:
        """Weighted residuals (n, k) and leverages (n, 1), for one μ (1, 1) or one for each row (n, 1)."""
        kept = self.squares / (self.squares + ridge)
        fitted = (self.left * kept) @ (self.left.mT @ self.target)
        return self.target - fitted, (self.left.square() * kept).sum(dim=1, keepdim=True) + self.share
