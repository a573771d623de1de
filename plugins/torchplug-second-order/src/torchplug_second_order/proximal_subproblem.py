r"""The quadratic subproblem of proximal Newton, on a small dense matrix.

    minimize  q(x) + h(x),    q(x) = gᵀ(x − θ) + ½ (x − θ)ᵀB(x − θ),    h = λR

Symbols: w parameters in the active set, θ (w,) where they stand, g = ∇F (w,), B (w, w) positive definite,
T = diag(τ) step sizes, one per parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from torchplug_second_order.linear_solvers import shifted_cholesky

ElementwiseProx = Callable[[Tensor, Tensor], Tensor]
"""x, τ ↦ argmin_u h(u) + Σ (u − x)²/2τ, each (w,)."""

_ROUNDS = 100
_ACCELERATED_STEPS = 20


@final
class Subproblem:
    r"""Solved by semismooth Newton steps on x = prox(x − T∇q(x)), with accelerated proximal gradients between.

    A Newton step solves for the parameters that the prox lets through, as if it went on to do so; where that does
    not halve ‖x − prox(x − T∇q(x))‖, accelerated steps are taken first. These converge from anywhere, as B ≼ T⁻¹
    with τⱼ = 1/Σₖ|Bⱼₖ|. Either way the last operation is a prox, so zeros are exact.

    Args:
        gradient: g (w,).
        model: B (w, w).
        start: θ (w,).
        prox: of h. Newton steps suppose that it treats every element alone; none succeeds where it does not.

    Reference: Newton steps: Hintermüller, Ito and Kunisch (2002), doi:10.1137/S1052623401383558; accelerated steps:
    Beck and Teboulle (2009), doi:10.1137/080716542; their restarts: O'Donoghue and Candès (2015),
    doi:10.1007/s10208-013-9150-3.
    """

    def __init__(self, gradient: Tensor, model: Tensor, start: Tensor, prox: ElementwiseProx) -> None:
        self.gradient = gradient
        self.model = model
        self.start = start
        self.prox = prox
        reach = model.abs().sum(dim=1)
        self._steps = 1.0 / torch.where(reach > 0.0, reach, torch.ones_like(reach))

    def solve(self, tolerance: float) -> Tensor:
        """The x (w,) where ‖x − prox(x − T∇q(x))‖ is at most `tolerance` of what it is at θ."""
        x = self.start
        after = self._forward_backward(x)
        norm = float((x - after).norm())
        goal = tolerance * norm
        for _ in range(_ROUNDS):
            # `after` and not x: it is where a prox ended
            x = after
            after = self._forward_backward(x)
            norm = float((x - after).norm())
            while norm > goal:
                there = self._newton(x, after)
                beyond = self._forward_backward(there)
                distance = float((there - beyond).norm())
                if not distance <= 0.5 * norm:
                    break
                x, after, norm = there, beyond, distance
            if norm <= goal:
                break
            after = self._accelerated(after)
        return after

    def _slope(self, x: Tensor) -> Tensor:
        return self.gradient + self.model @ (x - self.start)

    def _forward_backward(self, x: Tensor) -> Tensor:
        return self.prox(x - self._steps * self._slope(x), self._steps)

    def _newton(self, x: Tensor, after: Tensor) -> Tensor:
        r"""The point x + d, (I − D + D T B) d = −(x − prox(u)), D = prox′(u) at u = x − T∇q(x)."""
        with torch.enable_grad():
            u = (x - self._steps * self._slope(x)).requires_grad_()
            (passing,) = torch.autograd.grad(self.prox(u, self._steps).sum(), u)
        inside = torch.nonzero(passing > 0.0).squeeze(1)
        displacement = after - x
        if len(inside) == 0:
            return after
        share, steps = passing[inside], self._steps[inside]
        matrix = self.model[inside][:, inside]
        matrix.diagonal().add_((1.0 / share - 1.0) / steps)
        outside = displacement.index_fill(0, inside, 0.0)
        target = displacement[inside] / (share * steps) - (self.model[inside] @ outside)
        factor, _ = shifted_cholesky(matrix)
        within = torch.cholesky_solve(target.unsqueeze(1), factor).squeeze(1)
        return x + displacement.index_copy(0, inside, within)

    def _accelerated(self, x: Tensor) -> Tensor:
        """Some accelerated steps, restarted where they would lead back."""
        ahead, momentum = x, 1.0
        for _ in range(_ACCELERATED_STEPS):
            following = self._forward_backward(ahead)
            # in the metric of the steps
            if float(((ahead - following) / self._steps) @ (following - x)) > 0.0:
                momentum = 1.0
            after = 0.5 * (1.0 + (1.0 + 4.0 * momentum**2) ** 0.5)
            ahead = following + ((momentum - 1.0) / after) * (following - x)
            x, momentum = following, after
        return x
