r"""Piecewise linear losses of linear models as a linear or quadratic program.

    F(θ) = Σₜ δₜ max(0, sₜ) + gᵀθ + ½θᵀDθ + const,    sₜ = z − κₜ,    z = Aθ + b

Each loss ℓ(z) is its first slope times z plus, for each knot κₜ, the rise δₜ > 0 of the slope there times
max(0, z − κₜ).

Symbols: θ parameters (p,), D (p,) diagonal, T knots of all rows and scores. Of a network that is one linear map A is
(n, q), the same for each of k outputs, and p = qk; of any other that is linear in θ it is ∂z/∂θ (n·k, p).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from torchplug import Objective
from torchplug_second_order.linear_solvers import EPSILON

_ROWS = 2**16
"""Rows of A that are multiplied at once."""
_TRIED = 1000
"""Rows on which a loss shows whether it is convex."""
_SINGULAR = 1e-13
"""A pivot of the scaled matrix below which its eigenvalues decide."""


def refuse_concave(objective: Objective) -> None:
    """Refuse a loss whose slopes decrease, tried on some rows.

    Raises:
        ValueError: saying so.
    """
    pieces = objective.loss.pieces(objective.first_rows(_TRIED).target)
    if pieces is not None and bool((pieces.slopes.diff(dim=2) < 0.0).any()):
        raise ValueError("the loss is not convex: its slopes decrease at a knot; use an optimizer such as adam")


def numbers_held(objective: Objective) -> int:
    """How many numbers the program of an objective keeps in memory, about."""
    n, shape = objective.samples, objective.linear_map
    if shape is None:
        k = objective.scores_per_row
        return n * k * objective.size + 12 * n * k
    return n * shape.columns + 12 * n * shape.outputs


@dataclass(frozen=True, eq=False)
class Program:
    """F as knots and slopes.

    Args:
        design: A (r, q).
        offset: b (r, k).
        knots: κ (T,).
        rises: δ (T,), positive.
        of: the place of each knot's score in z (r·k,), indices (T,); None: T = r·k, in order.
        linear: g (p,) as (q, k).
        quadratic: D as (q, k).
        places: θ (p,) at each place of Θ (q, k), indices.
        start: Θ (q, k) where the parameters stand.
    """

    design: Tensor
    offset: Tensor
    knots: Tensor
    rises: Tensor
    of: Tensor | None
    linear: Tensor
    quadratic: Tensor
    places: Tensor
    start: Tensor

    @classmethod
    def build(cls, objective: Objective) -> Program:
        """The program of an objective where its parameters stand."""
        rows, shape = objective.first_rows(), objective.linear_map
        pieces = objective.loss.pieces(rows.target)
        assert pieces is not None, "the loss is piecewise linear"
        scores = objective.scores()
        weight = (objective.scale * rows.weight)[:, None, None]
        slopes = weight * pieces.slopes
        rises = slopes.diff(dim=2)
        p, point = objective.size, objective.point
        if shape is None:
            design, places = objective.score_jacobian(), torch.arange(p, device=point.device)[:, None]
            scores, first = scores.reshape(-1, 1), slopes[:, :, 0].reshape(-1, 1)
        else:
            ones = rows.weight.new_ones(len(rows.weight), int(shape.intercept))
            design = torch.cat([ones, rows.features.to(point)], dim=1)
            places, first = shape.matrix(torch.arange(p, device=point.device)), slopes[:, :, 0]
        start = point[places]
        of = torch.arange(scores.numel(), device=point.device).view(rises.shape[:2])[:, :, None].expand_as(rises)
        counted = rises > 0.0
        in_order = bool(counted.all()) and rises.shape[2] == 1
        diagonal = objective.penalty_diagonal()
        assert diagonal is not None, "penalties treat every parameter alone"
        curvature, gradient = 2.0 * diagonal[0], 2.0 * diagonal[1]
        return cls(
            design,
            scores - design @ start,
            pieces.knots[counted],
            rises[counted],
            None if in_order else of[counted],
            design.mT @ first + (gradient - curvature * point)[places],
            curvature[places],
            places,
            start,
        )

    def point(self, matrix: Tensor) -> Tensor:
        """The flat vector (p,) of Θ (q, k)."""
        flat = matrix.new_empty(matrix.numel())
        flat[self.places.reshape(-1)] = matrix.reshape(-1)
        return flat

    def along(self, matrix: Tensor) -> Tensor:
        """(A Θ)ₜ (T,)."""
        return self._at_knots(self.design @ matrix)

    def excess(self, matrix: Tensor) -> Tensor:
        """The distances s (T,) of the scores beyond the knots."""
        return self._at_knots(self.design @ matrix + self.offset) - self.knots

    def slope(self, share: Tensor, matrix: Tensor) -> Tensor:
        """The gradient (q, k) of Σₜ xₜ sₜ + gᵀθ + ½θᵀDθ, for x (T,)."""
        return self.transposed(share) + self.linear + self.quadratic * matrix

    def transposed(self, values: Tensor) -> Tensor:
        """Aᵀ applied to T values, (q, k)."""
        return self.design.mT @ self._at_scores(values)

    def slope_size(self) -> Tensor:
        """The gradient's largest possible terms (q, k), by which rounding is judged."""
        return self.design.abs().mT @ self._at_scores(self.rises) + self.linear.abs()

    def solve(self, weights: Tensor, target: Tensor) -> Tensor:
        """The Θ (q, k) with (Aᵀ diag(weights) A + D) Θ = target, each output by itself; of least norm if singular."""
        scattered = self._at_scores(weights)
        columns = [self._solve(scattered[:, j], self.quadratic[:, j], target[:, j]) for j in range(target.shape[1])]
        return torch.stack(columns, dim=1)

    def _solve(self, weights: Tensor, quadratic: Tensor, target: Tensor) -> Tensor:
        matrix = torch.diag(quadratic)
        for first in range(0, len(weights), _ROWS):
            scaled = self.design[first : first + _ROWS] * weights[first : first + _ROWS].sqrt()[:, None]
            matrix.addmm_(scaled.mT, scaled)
        diagonal = matrix.diagonal()
        unit = torch.where(diagonal > 0.0, diagonal, torch.ones_like(diagonal)).rsqrt()
        matrix = matrix * unit * unit[:, None]
        factor, trouble = torch.linalg.cholesky_ex(matrix)
        if not int(trouble) and float(factor.diagonal().min()) ** 2 > _SINGULAR:
            solution: Tensor = torch.cholesky_solve((unit * target)[:, None], factor)[:, 0]
            return unit * solution
        if not bool(matrix.isfinite().all()):
            return torch.full_like(target, torch.nan)
        values, vectors = torch.linalg.eigh(matrix)
        known = values > len(values) * 8 * EPSILON * values[-1]
        inverse = torch.where(known, 1.0 / values, torch.zeros_like(values))
        solution = vectors @ (inverse * (vectors.mT @ (unit * target)))
        return unit * solution

    def _at_knots(self, scores: Tensor) -> Tensor:
        flat = scores.reshape(-1)
        return flat if self.of is None else flat[self.of]

    def _at_scores(self, values: Tensor) -> Tensor:
        if self.of is None:
            return values.view_as(self.offset)
        return torch.zeros_like(self.offset).view(-1).index_add_(0, self.of, values).view_as(self.offset)
