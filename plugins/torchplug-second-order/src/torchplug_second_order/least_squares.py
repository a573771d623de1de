r"""Linear least squares from a triangular factor: rank, minimum norm, ridge.

    Θ = argmin ‖A Θ − Y‖² + Σ λ ∘ (Θ − C)²,    RᵀR = [A Y]ᵀ[A Y]

Symbols: A (n, q) the design, Y (n, k) the targets, R (q+k, q+k) upper triangular, Θ (q, k) the coefficients,
λ (q, k) ≥ 0 a penalty on each, and C (q, k) where it is least. With an intercept the first column of A is all ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import scipy.linalg
import torch
from torch import Tensor

from torchplug_second_order.linear_solvers import EPSILON


@dataclass(frozen=True, eq=False)
class Solution:
    """The coefficients, and how well the design determines them.

    Args:
        coefficients: Θ (q, k).
        rank: of A, the penalties' rows included; the least of the outputs'.
        dependent: columns of A, as few as possible, that are linear combinations of the others; empty at full rank.
        condition: the 2-norm condition number of A with columns of norm 1; infinite if one is all zero.
    """

    coefficients: Tensor
    rank: int
    dependent: tuple[int, ...]
    condition: float


def solve(
    factor: Tensor,
    outputs: int,
    *,
    intercept: bool,
    rows: int,
    penalty: Tensor | None = None,
    center: Tensor | None = None,
) -> Solution:
    r"""Find Θ; where it is not unique, the one whose slopes have the least norm.

    The rank is decided on columns of norm 1, singular values of at most max(n, q)·ε times the largest counting as
    zero: the units of the features do not matter. The norm is that of the slopes as they are, the intercept left out.

    Args:
        factor: R (q+k, q+k) in float64 on the CPU, finite.
        outputs: k.
        intercept: whether the first column of A is all ones.
        rows: n.
        penalty: λ (q, k) in units of ‖AΘ − Y‖²; None for none.
        center: C (q, k); None for zero.

    Reference: Golub and Van Loan (2013), Matrix Computations, sections 5.3 and 5.5.
    """
    columns = len(factor) - outputs
    design, target = factor[:, :columns], factor[:, columns:]
    if penalty is None or not bool(penalty.any()):
        return _solve(design[:columns], target[:columns], intercept, rows)
    center = torch.zeros_like(penalty) if center is None else center
    different, group = torch.unique(penalty, dim=1, return_inverse=True)
    parts: list[Solution] = []
    coefficients = torch.empty_like(penalty)
    for i, root in enumerate(different.sqrt().mT):
        mine = group == i
        below = torch.cat([torch.diag(root), root[:, None] * center[:, mine]], dim=1)
        stacked = torch.cat([torch.cat([design, target[:, mine]], dim=1)[:columns], below])
        triangle = torch.linalg.qr(stacked, mode="r")[1][:columns]
        part = _solve(triangle[:, :columns], triangle[:, columns:], intercept, rows)
        coefficients[:, mine] = part.coefficients
        parts.append(part)
    worst = min(parts, key=lambda part: part.rank)
    return Solution(coefficients, worst.rank, worst.dependent, max(part.condition for part in parts))


def _solve(triangle: Tensor, target: Tensor, intercept: bool, rows: int) -> Solution:
    """Solve triangle · Θ = target, (q, q) and (q, k)."""
    columns = len(triangle)
    norms = triangle.norm(dim=0)
    norms = torch.where(norms > 0.0, norms, torch.ones_like(norms))
    singular = torch.linalg.svdvals(triangle / norms)
    rank = int((singular > max(rows, columns) * EPSILON * singular[0]).sum())
    condition = float(singular[0] / singular[-1]) if float(singular[-1]) > 0.0 else torch.inf
    if rank == columns:
        coefficients = torch.linalg.solve_triangular(triangle, target, upper=True)
        return Solution(coefficients, rank, (), condition)
    first = int(intercept)
    slopes, dependent = _minimum_norm(triangle[first:, first:], target[first:], norms[first:], max(rank - first, 0))
    coefficients = slopes
    if intercept:
        constant = (target[:1] - triangle[:1, 1:] @ slopes) / triangle[0, 0]
        coefficients = torch.cat([constant, slopes])
    return Solution(coefficients, rank, tuple(first + j for j in dependent), condition)


def _minimum_norm(triangle: Tensor, target: Tensor, norms: Tensor, rank: int) -> tuple[Tensor, list[int]]:
    """The least of all solutions that use `rank` columns, and the columns that are combinations of the rest."""
    scaled = triangle / norms
    orthogonal, pivoted, pivots = (
        torch.from_numpy(part) for part in scipy.linalg.qr(scaled.numpy(), mode="economic", pivoting=True)
    )
    pivots = pivots.long()
    leading, rest = pivoted[:rank, :rank], pivoted[:rank, rank:]
    basic, null = torch.zeros_like(target), scaled.new_zeros(len(norms), len(norms) - rank)
    basic[pivots[:rank]] = torch.linalg.solve_triangular(leading, (orthogonal.mT @ target)[:rank], upper=True)
    null[pivots[:rank]] = -torch.linalg.solve_triangular(leading, rest, upper=True)
    null[pivots[rank:]] = torch.eye(len(norms) - rank, dtype=null.dtype)
    # in the slopes' own units, in which the norm is to be least
    basic, free = basic / norms[:, None], torch.linalg.qr(null / norms[:, None])[0]
    return basic - free @ (free.mT @ basic), sorted(pivots[rank:].tolist())
