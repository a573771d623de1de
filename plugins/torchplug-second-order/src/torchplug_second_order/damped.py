r"""Damped least squares: what Levenberg and Marquardt made of Gauss and Newton's step.

    Δ(μ) = −(JᵀJ + μD)⁻¹ Jᵀr

Symbols: J (m, p) and r (m,) the residuals' Jacobian and values, F = Σr², m = n·k rows, p parameters, μ the
damping, D a diagonal matrix with positive elements.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, final

import torch
from torch import Tensor

from torchplug import Objective, validate
from torchplug_second_order.method import Descent, Failure, Memory, Path, Point
from torchplug_second_order.sizes import refuse_memory, refuse_time
from torchplug_second_order.stopping import negligible_decrease

_MATRIX_FREE = "newton with linear_solver cg, or lbfgs"
_SLIGHT = (1e-15, 1e-13, 1e-11, 1e-9, 1e-7)
"""Dampings relative to diag JᵀJ, tried in this order."""
_COPIES = 4
"""Arrays of its size that work on a matrix takes: the matrix, a block of it, its sum and its factor."""


class System(ABC):
    """Damped normal equations at one point.

    Attributes:
        diagonal: diag JᵀJ (p,), penalty rows included.
        half_gradient: Jᵀr (p,), penalty rows included.
    """

    diagonal: Tensor
    half_gradient: Tensor

    @abstractmethod
    def solve(self, damping: Tensor) -> Tensor:
        """−(JᵀJ + diag(damping))⁻¹ Jᵀr (p,), NaN where that is not positive definite."""


@final
class PrimalSystem(System):
    """By Cholesky factorization of the (p, p) matrix.

    Args:
        squares: JᵀJ (p, p).
        half_gradient: Jᵀr (p,).
    """

    def __init__(self, squares: Tensor, half_gradient: Tensor) -> None:
        self.squares = squares
        self.half_gradient = half_gradient
        self.diagonal = squares.diagonal()

    def solve(self, damping: Tensor) -> Tensor:
        """−(JᵀJ + diag(damping))⁻¹ Jᵀr (p,)."""
        matrix = self.squares.clone()
        matrix.diagonal().add_(damping)
        factor, trouble = torch.linalg.cholesky_ex(matrix)
        if int(trouble):
            return torch.full_like(self.half_gradient, math.nan)
        return torch.cholesky_solve(self.half_gradient.unsqueeze(1), factor).squeeze(1).neg_()


@final
class DualSystem(System):
    r"""By Cholesky factorization of an (m, m) matrix: for fewer rows than parameters.

        Δ = −E⁻¹ [Jᵀ (I + J E⁻¹ Jᵀ)⁻¹ (r − J E⁻¹ q) + q],    E = diag(damping) + diag(λ)

    Args:
        jacobian: J (m, p), of the data alone.
        residuals: r (m,), of the data alone.
        penalty: λ (p,), half the second derivatives of the penalties.
        penalty_gradient: q (p,), half their gradient.

    Reference: Golub and Van Loan (2013), Matrix Computations, section 2.1.4 (Sherman-Morrison-Woodbury).
    """

    def __init__(self, jacobian: Tensor, residuals: Tensor, penalty: Tensor, penalty_gradient: Tensor) -> None:
        self.jacobian = jacobian
        self.residuals = residuals
        self.penalty = penalty
        self.penalty_gradient = penalty_gradient
        self.diagonal = torch.linalg.vecdot(jacobian, jacobian, dim=0) + penalty
        self.half_gradient = residuals @ jacobian + penalty_gradient

    @classmethod
    def of(cls, objective: Objective) -> DualSystem:
        """The system at the objective's current point."""
        penalty = objective.penalty_diagonal()
        assert penalty is not None, "has_fewer_rows has seen to it"
        return cls(*objective.jacobian(), *penalty)

    def solve(self, damping: Tensor) -> Tensor:
        """Δ (p,)."""
        weight = 1.0 / (damping + self.penalty)
        weighted = self.jacobian * weight
        matrix = weighted @ self.jacobian.mT
        matrix.diagonal().add_(1.0)
        factor, trouble = torch.linalg.cholesky_ex(matrix)
        if int(trouble):
            return torch.full_like(weight, math.nan)
        target = self.residuals - weighted @ self.penalty_gradient
        multipliers = torch.cholesky_solve(target.unsqueeze(1), factor).squeeze(1)
        return -(multipliers @ weighted + weight * self.penalty_gradient)


def has_fewer_rows(objective: Objective) -> bool:
    """Whether the dual system is the smaller one, and there is one."""
    fewer = objective.samples * objective.outputs < objective.size
    return fewer and objective.penalty_diagonal() is not None


def refuse_system(objective: Objective, memory_limit: float, passes: float = 2) -> None:
    """Refuse systems that do not fit, or take too long.

    Args:
        objective: what is to be minimized.
        memory_limit: > 0, in GiB.
        passes: operations per element of J and column of the system.

    Raises:
        ValueError: with what it would take, and the alternative.
    """
    m, p = objective.samples * objective.outputs, objective.size
    dual = has_fewer_rows(objective)
    what = f"the Jacobian of {m:,} residuals and {p:,} parameters" if dual else f"JᵀJ of {p:,} parameters"
    columns = m if dual else p
    refuse_memory(_COPIES * columns * p, memory_limit, what, _MATRIX_FREE)
    operations = passes * m * p * columns + columns**3
    refuse_time(operations, objective.point.device, f"{what} over {objective.samples:,} rows", _MATRIX_FREE)


def steepest_column(half_gradient: Tensor, squares: Tensor) -> float:
    """The largest |Jⱼᵀr| / ‖Jⱼ‖, columns of zeros left out.

    Args:
        half_gradient: Jᵀr (p,).
        squares: ‖Jⱼ‖² (p,).
    """
    norms = torch.where(squares > 0.0, squares, torch.ones_like(squares)).sqrt()
    return float((half_gradient / norms).abs().max())


@final
@dataclass(frozen=True)
class Damped(Path):
    """The curve Δ(μ), from Gauss and Newton's step for μ = 0 to a short one down the gradient.

    Args:
        system: solves for Δ.
        scale: D (p,).
        unit: the μ with which damping and curvature are of one size.
    """

    system: System
    scale: Tensor
    unit: float

    @cached_property
    def predicted_reduction(self) -> float:
        """The decrease of ‖r + JΔ‖² over the full step: ‖Pr‖², P the projection onto the columns of J."""
        return float(-(self.full_step @ self.system.half_gradient))

    @cached_property
    def full_step(self) -> Tensor:
        """Δ (p,) with the least damping that lets JᵀJ be factorized."""
        diagonal = self.system.diagonal
        damping = torch.where(diagonal > 0.0, diagonal, torch.ones_like(diagonal))
        step = torch.full_like(damping, math.nan)
        for share in _SLIGHT:
            step = self.system.solve(share * damping)
            if bool(step.isfinite().all()):
                break
        return step

    def at(self, damping: float) -> Tensor:
        """Δ(μ) (p,), NaN where it does not exist."""
        return self.system.solve(damping * self.scale)

    def predicted(self, displacement: Tensor, damping: float) -> float:
        """The decrease F − ‖r + JΔ‖² that the linear model expects of Δ(μ)."""
        return float(displacement @ (damping * self.scale * displacement - self.system.half_gradient))


@final
class DampedGaussNewton(Descent[Damped]):
    r"""Gauss and Newton's step, damped.

    Args:
        scaling: `identity`, D = I, which depends on the parameters' units; `diagonal`, D = diag JᵀJ, which does
            not: each element the largest of all points so far, as a column that fades would let its parameter run off.
        memory_limit: > 0, in GiB.

    Raises:
        ValueError: if scaling or memory_limit is out of range.

    Reference: Levenberg (1944), doi:10.1090/qam/10666; Marquardt (1963), doi:10.1137/0111030; the largest D: Moré
    (1978), doi:10.1007/BFb0067700.
    """

    ends_by_promise = False

    def __init__(self, scaling: Literal["identity", "diagonal"], memory_limit: float = 4.0) -> None:
        validate.one_of("identity", "diagonal", scaling=scaling)
        validate.positive(memory_limit=memory_limit)
        self.scaling = scaling
        self.memory_limit = memory_limit

    def refuse(self, objective: Objective) -> None:
        """Refuse systems that do not fit, or take too long."""
        refuse_system(objective, self.memory_limit)

    def evaluate(self, objective: Objective) -> None:
        """Ask for what the system is made of."""
        if has_fewer_rows(objective):
            objective.jacobian()
        else:
            objective.normal_equations()

    def point(self, objective: Objective) -> Point:
        """F and ∇F, and the largest |Jⱼᵀr| / ‖Jⱼ‖ in place of ‖∇F‖∞: in units of √F."""
        system = self._system(objective)
        return Point.of(objective)._replace(steepest=steepest_column(system.half_gradient, system.diagonal))

    def is_stationary(self, here: Point, objective: Objective, tolerance: float, initial: float) -> bool:
        """Whether ‖Pr‖² ≤ tolerance² · F + (8ε)² F₀; no less than any (Jⱼᵀr)²/‖Jⱼ‖², which cost nothing."""
        negligible = negligible_decrease(tolerance, here.value, initial)
        if here.steepest**2 > negligible:
            return False
        return Damped(self._system(objective), here.gradient, 1.0).predicted_reduction <= negligible

    def path(self, here: Point, objective: Objective, memory: Memory) -> Damped | Failure:
        """The curve of damped steps."""
        system = self._system(objective)
        # a column of zeros, as of a dead unit, has nothing to damp and must not be divided by
        own = torch.where(system.diagonal > 0.0, system.diagonal, torch.ones_like(system.diagonal))
        if self.scaling == "identity":
            return Damped(system, torch.ones_like(own), float(own.max()))
        scale = torch.maximum(own, memory["scale"]) if "scale" in memory else own
        memory["scale"] = scale
        return Damped(system, scale, 1.0)

    @staticmethod
    def _system(objective: Objective) -> System:
        return DualSystem.of(objective) if has_fewer_rows(objective) else PrimalSystem(*objective.normal_equations())

    def reset(self, memory: Memory) -> bool:
        """Drop damping and scale; raised as far as they go, they are no reason for another try."""
        memory.pop("damping", None)
        memory.pop("scale", None)
        return False
