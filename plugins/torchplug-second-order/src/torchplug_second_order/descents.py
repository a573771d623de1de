"""Descent directions, from the derivatives of the objective at a point.

Symbols: g = ∇F, H = ∇²F, J and r the residuals' Jacobian and values with F = Σr², so that g = 2Jᵀr.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor

from torchplug import Objective, validate
from torchplug_second_order.damped import DualSystem, has_fewer_rows, refuse_system, steepest_column
from torchplug_second_order.linear_solvers import EPSILON, minimum_norm, shifted_cholesky, truncated_cg
from torchplug_second_order.method import Descent, Failure, Memory, Path, Point
from torchplug_second_order.sizes import refuse_memory, refuse_time, seconds

_SLIGHT = 1e-10
"""A damping that only decides among solutions that are equally good, relative to the largest of diag JᵀJ."""
_CG_ITERATIONS = 500
_BACKWARD = 6
"""Operations per parameter and row of a forward and backward pass, twice that with second derivatives."""


@final
@dataclass(frozen=True)
class Line(Path):
    """The points θ + αd.

    Args:
        direction: d (p,).
        slope: ∇F·d, negative.
        initial_step_size: the α to try first.
    """

    direction: Tensor
    slope: float
    initial_step_size: float = 1.0

    @property
    def predicted_reduction(self) -> float:
        """What a parabola with its minimum at the first α would give."""
        return -0.5 * self.initial_step_size * self.slope

    @property
    def full_step(self) -> Tensor:
        """The displacement at the first α."""
        return self.initial_step_size * self.direction


def descending(direction: Tensor, here: Point, objective: Objective, remedy: str, first: float = 1.0) -> Line | Failure:
    """The line along rank 0's direction, if F decreases along it."""
    slope = (direction @ here.gradient).reshape(1)
    # together, so that all ranks decide equally about a direction
    packed = objective.broadcast(torch.cat([direction, slope]))
    slope_there = float(packed[-1])
    if not math.isfinite(slope_there):
        return Failure("the system for the direction has no finite solution", remedy)
    if slope_there >= 0.0:
        return Failure(f"the loss does not decrease along the direction: its slope is {slope_there:.2g}", remedy)
    return Line(packed[:-1], slope_there, first)


def first_length(gradient: Tensor) -> float:
    """An α for −g where nothing is known of the curvature: a step of length 1, or of ‖g‖ if that is less."""
    # squares of the tiniest gradients underflow
    return 1.0 / max(1.0, float(gradient.norm()))


@final
class Steepest(Descent[Line]):
    r"""The way of the negative gradient.

        d = −g,    first α = sᵀs / sᵀy

    where s is the last displacement and y the change of g over it: the α that the last step would have wanted.

    Reference: Barzilai and Borwein (1988), doi:10.1093/imanum/8.1.141.
    """

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along −g."""
        first = memory.get("length") or first_length(here.gradient)
        return descending(-here.gradient, here, objective, "check the loss's derivative", first)

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Take the curvature along the step; where there is none, nothing is known."""
        curvature = float(displacement @ change)
        memory["length"] = float(displacement @ displacement) / curvature if curvature > 0.0 else None

    def reset(self, memory: Memory) -> bool:
        """Drop the first α."""
        return memory.pop("length", None) is not None


@final
class Given(Descent[Line]):
    """A direction that a given function finds.

    Args:
        direction: the objective, at the current parameters, ↦ d (p,).
    """

    def __init__(self, direction: Callable[[Objective], Tensor]) -> None:
        self.direction = direction

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along the given direction."""
        return descending(self.direction(objective), here, objective, "give a direction of descent")


@final
class Newton(Descent[Line]):
    r"""Newton's direction, its curvature modified where F is not convex, so that it never leads uphill.

        (H + τI) d = −g    by Cholesky, with the first τ of a growing sequence that makes it positive definite
        H d ≈ −g           by conjugate gradients, ended by the first curvature that is not positive

    Args:
        linear_solver: `cholesky` forms H, of memory 8p² bytes a copy; `cg` needs products Hv alone; `auto` takes
            Cholesky where that is soon done.
        memory_limit: > 0, in GiB, of the dense solver.

    Raises:
        ValueError: if linear_solver or memory_limit is out of range.

    Reference: Nocedal and Wright (2006), Numerical Optimization, algorithms 3.3 and 7.1.
    """

    _COPIES = 3
    _FEW = 100
    """Parameters that conjugate gradients would not spare anything."""
    _SOON = 2.0
    """Seconds that a dense iteration may take before conjugate gradients are the better bet."""

    def __init__(self, linear_solver: Literal["auto", "cholesky", "cg"] = "auto", memory_limit: float = 4.0) -> None:
        validate.one_of("auto", "cholesky", "cg", linear_solver=linear_solver)
        validate.positive(memory_limit=memory_limit)
        self.linear_solver = linear_solver
        self.memory_limit = memory_limit

    def refuse_size(self, size: int) -> None:
        """Refuse Hessians that do not fit."""
        if self.linear_solver == "cholesky":
            refuse_memory(
                self._COPIES * size**2,
                self.memory_limit,
                f"the Hessian of {size:,} parameters",
                "linear_solver cg, or the optimizer lbfgs",
            )

    def refuse(self, objective: Objective) -> None:
        """Refuse Hessians that would take too long."""
        self.refuse_size(objective.size)
        if self.linear_solver == "cholesky":
            what = f"the Hessian of {objective.size:,} parameters over {objective.samples:,} rows"
            device = objective.point.device
            refuse_time(self._operations(objective), device, what, "linear_solver cg, or the optimizer lbfgs")

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along Newton's direction, or along −g where nothing better is known."""
        direction = (
            self._by_cholesky(here, objective) if self.is_dense(objective) else self._by_cg(here, objective, memory)
        )
        return descending(direction, here, objective, "check the loss's second derivative, or use lbfgs")

    def is_dense(self, objective: Objective) -> bool:
        """Whether the Hessian is formed and factorized."""
        if self.linear_solver != "auto" or objective.size <= self._FEW:
            return self.linear_solver != "cg"
        fits = 8 * self._COPIES * objective.size**2 <= self.memory_limit * 2**30
        return fits and seconds(self._operations(objective), objective.point.device) <= self._SOON

    @staticmethod
    def _operations(objective: Objective) -> float:
        p, n = objective.size, objective.samples
        return float(_BACKWARD) * n * p * objective.hessian_cost + p**3

    @staticmethod
    def _by_cholesky(here: Point, objective: Objective) -> Tensor:
        factor, shift = shifted_cholesky(objective.hessian().clone())
        if not math.isfinite(shift):
            return torch.full_like(here.gradient, math.nan)
        return -torch.cholesky_solve(here.gradient.unsqueeze(1), factor).squeeze(1)

    @staticmethod
    def _by_cg(here: Point, objective: Objective, memory: Memory) -> Tensor:
        norm = float(here.gradient.norm())
        # superlinear: the better the point, the better the direction must be
        forcing = min(0.5, math.sqrt(norm / memory.setdefault("initial_norm", norm)))
        limit = min(2 * objective.size, _CG_ITERATIONS)
        direction, curvature = truncated_cg(objective.hvp, here.gradient, forcing, limit, objective.broadcast)
        if curvature <= 0.0 and bool((direction == -here.gradient).all()):
            # as long as if the curvature were of the other sign, but not longer than θ itself
            longest = max(1.0, float(here.position.norm())) / norm
            direction = direction * min(longest, -1.0 / curvature if curvature < 0.0 else longest)
        return direction


@final
class GaussNewton(Descent[Line]):
    r"""The minimum of ‖r + Jd‖²: Newton's direction without the residuals' own curvature.

        (JᵀJ) d = −Jᵀr

    With fewer residuals than parameters, or a rank that is deficient, d is the solution of least norm.

    Args:
        linear_solver: `qr` factorizes J itself; `cholesky` takes JᵀJ, in less time with half the digits.
        memory_limit: > 0, in GiB.

    Raises:
        ValueError: if linear_solver or memory_limit is out of range.

    Reference: Nocedal and Wright (2006), Numerical Optimization, section 10.3.
    """

    def __init__(self, linear_solver: Literal["qr", "cholesky"] = "qr", memory_limit: float = 4.0) -> None:
        validate.one_of("qr", "cholesky", linear_solver=linear_solver)
        validate.positive(memory_limit=memory_limit)
        self.linear_solver = linear_solver
        self.memory_limit = memory_limit

    def refuse(self, objective: Objective) -> None:
        """Refuse systems that do not fit, or take too long."""
        refuse_system(objective, self.memory_limit, passes=4 if self.linear_solver == "qr" else 2)

    def evaluate(self, objective: Objective) -> None:
        """Ask for what the direction is computed from."""
        if has_fewer_rows(objective):
            objective.jacobian()
        elif self.linear_solver == "qr":
            objective.qr_factor()
        else:
            objective.normal_equations()

    def point(self, objective: Objective) -> Point:
        """F and ∇F, and the largest |Jⱼᵀr| / ‖Jⱼ‖ in place of ‖∇F‖∞: in units of √F."""
        here = Point.of(objective)
        if has_fewer_rows(objective):
            squares = DualSystem.of(objective).diagonal
        elif self.linear_solver == "qr":
            squares = objective.qr_factor()[:-1, :-1].square().sum(dim=0)
        else:
            squares = objective.normal_equations()[0].diagonal()
        return here._replace(steepest=steepest_column(0.5 * here.gradient, squares))

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along Gauss and Newton's direction."""
        remedy = "use levenberg_marquardt, which damps the step"
        if has_fewer_rows(objective):
            system = DualSystem.of(objective)
            direction = system.solve(torch.full_like(here.gradient, _SLIGHT * float(system.diagonal.max())))
        elif self.linear_solver == "qr":
            factor = objective.qr_factor()
            direction = -minimum_norm(factor[:-1, :-1], factor[:-1, -1])
        else:
            direction = _by_gram(*objective.normal_equations())
            remedy = "JᵀJ is singular to working precision: use linear_solver qr, levenberg_marquardt or a penalty l2"
        return descending(direction, here, objective, remedy)


def _by_gram(squares: Tensor, product: Tensor) -> Tensor:
    """−(JᵀJ)⁻¹Jᵀr, or NaN where JᵀJ is singular; decided on columns of norm 1, as units must not matter."""
    norms = squares.diagonal().sqrt()
    norms = torch.where(norms > 0.0, norms, torch.ones_like(norms))
    factor, trouble = torch.linalg.cholesky_ex(squares / norms / norms.unsqueeze(1))
    if int(trouble) or float(factor.diagonal().min()) ** 2 <= len(norms) * EPSILON:
        return torch.full_like(product, math.nan)
    return -torch.cholesky_solve((product / norms).unsqueeze(1), factor).squeeze(1) / norms
