r"""The quadratic subproblem of proximal Newton, on a small dense matrix.

    minimize  q(x) + h(x),    q(x) = gᵀ(x − θ) + ½ (x − θ)ᵀB(x − θ),    h = λR

Symbols: w parameters in the active set, θ (w,) where they stand, g = ∇F (w,), B (w, w) positive definite, τ the
step size of a gradient step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from torchplug_second_order.linear_solvers import EPSILON, shifted_cholesky

Prox = Callable[[Tensor, float], Tensor]
"""x (w,), τ ↦ argmin_u h(u) + Σ (u − x)²/2τ."""

_ROUNDS = 12
_ACCELERATED_STEPS = 20
"""In the first round; then half as many again in each."""
_SHARES = (1.0, 0.25, 0.0625, 0.015625)
"""Of a Newton step, tried in this order."""
_ROUNDING = 1e-13


@final
class Subproblem:
    r"""Solved by semismooth Newton steps on x = prox(x − τ∇q(x)), with accelerated proximal gradients between.

    A Newton step solves for the parameters that the prox lets through, as if it went on to do so. Where it does not
    lower q + h more than a gradient step would, accelerated steps are taken: these converge from anywhere, as
    B ≼ I/τ with τ = 1/maxⱼ Σₖ|Bⱼₖ|. The last operation is always a prox, so zeros are exact, and q + h is never
    above its value at θ: even a solution that was given up early leads downhill.

    Args:
        gradient: g (w,).
        model: B (w, w).
        start: θ (w,).
        prox: of h. Newton steps suppose that it treats every element alone; few succeed where it does not.
        penalty: h.

    Reference: Newton steps: Hintermüller, Ito and Kunisch (2002), doi:10.1137/S1052623401383558; accelerated steps:
    Beck and Teboulle (2009), doi:10.1137/080716542; their restarts: O'Donoghue and Candès (2015),
    doi:10.1007/s10208-013-9150-3.
    """

    def __init__(
        self, gradient: Tensor, model: Tensor, start: Tensor, prox: Prox, penalty: Callable[[Tensor], float]
    ) -> None:
        self.gradient = gradient
        self.model = model
        self.start = start
        self.prox = prox
        self.penalty = penalty
        self._step = 1.0 / (float(torch.linalg.matrix_norm(model, math.inf)) or 1.0)

    def solve(self, tolerance: float) -> Tensor:
        """The x (w,) where ‖x − prox(x − ∇q(x))‖ is at most `tolerance` of what it is at θ, or nearly so."""
        x = best = self.start
        lowest, _ = self._value(best)
        # no less than the rounding of a distance
        least = 10.0 * EPSILON * float(self.start.norm() + self.gradient.norm())
        goal, length = max(tolerance * self._distance(x), least), _ACCELERATED_STEPS
        before = math.inf
        for _ in range(_ROUNDS):
            x, distance = self._newton_steps(x, goal)
            x = self._forward_backward(x)
            value, rounding = self._value(x)
            # neither falls any more: what is left is rounding
            stuck = value >= lowest - rounding and distance > 0.5 * before
            if value <= lowest + rounding:
                best, lowest = x, value
            if distance <= goal or stuck:
                break
            before = distance
            x = self._accelerated(x, length)
            length += length // 2
        return best

    def _newton_steps(self, x: Tensor, goal: float) -> tuple[Tensor, float]:
        """Newton steps as long as they help; then also how far the point is from a solution."""
        distance = self._distance(x)
        while distance > goal:
            after = self._forward_backward(x)
            following = self._lower(x, after, distance)
            if following is None:
                break
            x, distance = following, self._distance(following)
        return x, distance

    def _lower(self, x: Tensor, after: Tensor, distance: float) -> Tensor | None:
        """A point on the way of a Newton step that is lower than a gradient step leads, if one is found."""
        otherwise, rounding = self._value(after)
        whole, reach = self._newton(x, after)
        for share in _SHARES:
            way = share * whole
            there = self._forward_backward(x + torch.where(way.abs() <= reach.abs(), way, reach))
            value, _ = self._value(there)
            if value < otherwise - rounding:
                return there
            if share == 1.0 and value <= otherwise + rounding and self._distance(there) <= 0.5 * distance:
                return there
        return None

    def _value(self, x: Tensor) -> tuple[float, float]:
        """The value of q + h, and how much of it is rounding."""
        shift = x - self.start
        smooth, penalty = float(shift @ (self.gradient + 0.5 * (self.model @ shift))), self.penalty(x)
        return smooth + penalty, _ROUNDING * (abs(smooth) + abs(penalty))

    def _distance(self, x: Tensor) -> float:
        """‖x − prox(x − ∇q(x))‖, by which training ends as well: with τ it would depend on the stiffest direction."""
        return float((x - self.prox(x - self._slope(x), 1.0)).norm())

    def _slope(self, x: Tensor) -> Tensor:
        return self.gradient + self.model @ (x - self.start)

    def _forward_backward(self, x: Tensor) -> Tensor:
        return self.prox(x - self._step * self._slope(x), self._step)

    def _newton(self, x: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        r"""The step d (w,), and how far each element may go: as far, or to the kink of h that it would cross.

        (I − D + τDB) d = −(x − prox(u)),    D = prox′(u) at u = x − τ∇q(x)
        """
        with torch.enable_grad():
            u = (x - self._step * self._slope(x)).requires_grad_()
            (passing,) = torch.autograd.grad(self.prox(u, self._step).sum(), u)
        inside = torch.nonzero(passing > 0.0).squeeze(1)
        displacement = after - x
        if len(inside) == 0:
            return displacement, displacement
        share = passing[inside]
        matrix = self.model[inside][:, inside]
        matrix.diagonal().add_((1.0 / share - 1.0) / self._step)
        outside = displacement.index_fill(0, inside, 0.0)
        target = displacement[inside] / (share * self._step) - (self.model[inside] @ outside)
        factor, _ = shifted_cholesky(matrix)
        within = torch.cholesky_solve(target.unsqueeze(1), factor).squeeze(1)
        displacement = displacement.index_copy(0, inside, within)
        return displacement, self._short_of_kinks(x + displacement, inside) - x

    def _short_of_kinks(self, x: Tensor, inside: Tensor) -> Tensor:
        """Where a Newton step would end, but for the elements that crossed a kink of h: these end at it.

        There a prox with any step leaves every element where it is, if the kink is not between it and where it came
        from; with a long step, all others end at the kink.
        """
        slope = self._slope(x)
        pull = float(slope[inside].abs().max())
        if pull == 0.0:
            return x
        step = 4.0 * float(x[inside].abs().max()) / pull
        return x.index_copy(0, inside, self.prox(x - step * slope, step)[inside])

    def _accelerated(self, x: Tensor, steps: int) -> Tensor:
        """Some accelerated steps, restarted where they would lead back."""
        ahead, momentum = x, 1.0
        for _ in range(steps):
            following = self._forward_backward(ahead)
            if float((ahead - following) @ (following - x)) > 0.0:
                momentum = 1.0
            after = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
            ahead = following + ((momentum - 1.0) / after) * (following - x)
            x, momentum = following, after
        return x
