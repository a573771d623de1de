r"""Leave-one-out and generalized cross-validation of ridge regression.

One singular value decomposition of the centred rows serves all λ (`objective/leave_one_out.py`). Symbols: n rows,
weights w of mean 1, c what the training objective multiplies the sum of squares by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchplug.objective.least_squares import LeastSquares
from torchplug.objective.leave_one_out import DecomposedRows
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

        μᵢ = λ (n − wᵢ)/(cn)
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
    left = left[:, known]
    system = DecomposedRows(
        left, values[known].square(), target, share, rows.weight, left.mT @ target, len(rows.weight)
    )
    ridge = rows.weight.new_tensor(strengths.l2) / design.scale
    each = torch.split(ridge, max(1, _NUMBERS // len(rows.weight)))
    found = torch.cat([_estimates(system, some, design.scale) for some in each])
    return LeftOut(*found.T.tolist())


def _estimates(rows: DecomposedRows, ridge: Tensor, scale: float) -> Tensor:
    """Mean, standard error and generalized cross-validation (L, 3) for each μ = λ/c (L,)."""
    n = rows.samples
    losses = scale * n * rows.left_out(ridge)  # (L, n), weighted
    kept = rows.squares / (rows.squares + ridge[:, None])
    effective = kept.sum(dim=1) + rows.share.sum()
    outside = (rows.target - rows.left @ rows.pull).square().sum()
    squares = outside + ((1.0 - kept).square() @ rows.pull.square()).sum(dim=1)
    generalized = torch.where(effective < n, scale * squares / (1.0 - effective / n).square(), torch.nan)
    return torch.stack([losses.mean(dim=1), losses.std(dim=1) / math.sqrt(n), generalized], dim=1)
