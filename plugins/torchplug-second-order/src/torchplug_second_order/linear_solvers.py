"""Linear systems of the descents: by Cholesky, by orthogonal factors, by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float64).eps
_FIRST_SHIFT = 1e-8
"""The first shift of an indefinite matrix, as a share of its largest element."""
_GROWTH = 4.0


def shifted_cholesky(matrix: Tensor) -> tuple[Tensor, float]:
    r"""The Cholesky factor L of A + τI, with τ the first of 0, δ, 4δ, 16δ, … that makes it positive definite.

    Args:
        matrix: A (p, p), symmetric and finite; it is overwritten.

    Returns:
        L (p, p) and τ; τ is infinite, and L worthless, for a matrix that is not finite.

    Reference: Nocedal and Wright (2006), Numerical Optimization, algorithm 3.3.
    Note: δ is 1e-8 of the largest element, at least so much that the smallest diagonal element becomes
    positive, where the reference takes a constant: the result then does not depend on the unit of F.
    """
    largest = float(matrix.abs().max())
    lowest = float(matrix.diagonal().min())
    if not math.isfinite(largest):
        return matrix, math.inf
    least = _FIRST_SHIFT * (largest or 1.0)
    shift, added = (0.0 if lowest > 0.0 else least - lowest), 0.0
    while True:
        matrix.diagonal().add_(shift - added)
        added = shift
        factor, trouble = torch.linalg.cholesky_ex(matrix)
        if not int(trouble):
            return factor, shift
        shift = max(_GROWTH * shift, least)


def minimum_norm(factor: Tensor, target: Tensor) -> Tensor:
    r"""The x that minimizes ‖Rx − b‖, of all such x the one of least norm in units of R's columns.

    Args:
        factor: R (p, p), upper triangular.
        target: b (p,).

    Returns:
        x (p,); full rank is decided on columns of norm 1, as units must not matter.
    """
    norms = factor.norm(dim=0)
    norms = torch.where(norms > 0.0, norms, torch.ones_like(norms))
    scaled = factor / norms
    tolerance = len(norms) * EPSILON
    solution: Tensor
    if float(scaled.diagonal().abs().min()) > math.sqrt(tolerance):
        solution = torch.linalg.solve_triangular(scaled, target.unsqueeze(1), upper=True).squeeze(1)
    else:
        left, singular, right = torch.linalg.svd(scaled)
        inverse = torch.where(singular > tolerance * singular[0], 1.0 / singular, torch.zeros_like(singular))
        solution = right.mT @ (inverse * (left.mT @ target))
    return solution / norms


def truncated_cg(
    product: Callable[[Tensor], Tensor],
    gradient: Tensor,
    tolerance: float,
    limit: int,
    agree: Callable[[Tensor], Tensor],
) -> tuple[Tensor, float]:
    r"""Solve Hd = −g roughly, by conjugate gradients that stop where the curvature is not positive.

    Args:
        product: v ↦ Hv.
        gradient: g (p,).
        tolerance: of ‖Hd + g‖, relative to ‖g‖.
        limit: the most products.
        agree: makes a tensor the same on all ranks; the decisions are.

    Returns:
        d (p,), a direction of descent, and the curvature dᵀHd/dᵀd of the last direction tried: not positive if
        that ended it. If already −g is such a direction, d is −g.

    Reference: Steihaug (1983), doi:10.1137/0720042; Nocedal and Wright (2006), algorithm 7.1.
    """
    solution = torch.zeros_like(gradient)
    residual, direction = gradient, -gradient
    squared = agree(gradient @ gradient)
    target = tolerance**2 * float(squared)
    largest = 0.0  # the largest ‖Hv‖/‖v‖ met: what is nothing beside it is rounding, not curvature
    for iteration in range(limit):
        along = product(direction)
        products = torch.stack([direction @ along, direction @ direction, along @ along])
        curvature, length, magnitude = agree(products).tolist()
        largest = max(largest, math.sqrt(magnitude / length))
        if not curvature > len(gradient) * EPSILON * largest * length:
            return (direction if iteration == 0 else solution), curvature / length
        step = squared / curvature
        solution = solution + step * direction
        residual = residual + step * along
        before, squared = squared, agree(residual @ residual)
        if float(squared) <= target:
            break
        direction = (squared / before) * direction - residual
    return solution, curvature / length
