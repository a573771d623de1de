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
    columns = triangle.shape[1]
    norms = triangle.norm(dim=0)
    norms = torch.where(norms > 0.0, norms, torch.ones_like(norms))
    # of fewer rows than columns R has as many; without the zeros below, the time is linear in the columns
    held = triangle.any(dim=1)
    triangle, target = triangle[held], target[held]
    singular = torch.linalg.svdvals(triangle / norms)
    rank = int((singular > max(rows, columns) * EPSILON * singular[:1]).sum())
    if rank == columns:
        coefficients = torch.linalg.solve_triangular(triangle, target, upper=True)
        return Solution(coefficients, rank, (), float(singular[0] / singular[-1]))
    determined = len(singular) == columns and float(singular[-1]) > 0.0
    condition = float(singular[0] / singular[-1]) if determined else torch.inf
    first = int(intercept)
    slopes, dependent = _minimum_norm(triangle[first:, first:], target[first:], norms[first:], max(rank - first, 0))
    coefficients = slopes
    if intercept:
        constant = (target[:1] - triangle[:1, 1:] @ slopes) / triangle[0, 0]
        coefficients = torch.cat([constant, slopes])
    return Solution(coefficients, rank, tuple(first + j for j in dependent), condition)


def _minimum_norm(triangle: Tensor, target: Tensor, norms: Tensor, rank: int) -> tuple[Tensor, list[int]]:
    r"""The least of all solutions that use `rank` columns, and the columns that are combinations of the rest.

    A pivoted factorization gives the basic solution b, in which those columns are zero, and their combinations K:
    θ₁ + K θ₂ = b. Of its solutions θ = Q T⁻ᵀ b is the least, where QT = [I K]ᵀ.
    """
    orthogonal, pivoted, pivots = _pivoted_qr(triangle / norms)
    leading, rest = pivoted[:rank, :rank], pivoted[:rank, rank:]
    right = torch.cat([rest, (orthogonal.mT @ target)[:rank]], dim=1)
    combined = torch.linalg.solve_triangular(leading, right, upper=True)
    # in the slopes' own units, in which the norm is to be least
    used, unused = norms[pivots[:rank]], norms[pivots[rank:]]
    combined /= used[:, None]
    combinations, basic = combined[:, : len(unused)] * unused, combined[:, len(unused) :]
    system = torch.cat([torch.eye(rank, dtype=basic.dtype), combinations.mT])
    # rows of very different sizes keep their digits where the largest come first: Higham (2002), section 19.4
    order = system.norm(dim=1).argsort(descending=True)
    orthogonal, pivoted, exchanged = _pivoted_qr(system[order])
    slopes = torch.empty(len(norms), target.shape[1], dtype=basic.dtype)
    slopes[pivots[order]] = orthogonal @ torch.linalg.solve_triangular(pivoted.mT, basic[exchanged], upper=False)
    return slopes, sorted(pivots[rank:].tolist())


def _pivoted_qr(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Q, R and the order of the columns."""
    orthogonal, triangle, pivots = scipy.linalg.qr(matrix.numpy(), mode="economic", pivoting=True)
    return torch.from_numpy(orthogonal), torch.from_numpy(triangle), torch.from_numpy(pivots).long()
