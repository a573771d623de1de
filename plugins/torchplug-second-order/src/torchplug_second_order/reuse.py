r"""Newton's direction from a Hessian that is kept while it serves, which BFGS's updates then correct.

Symbols: g = ∇F, H = ∇²F, p parameters; s a displacement, y the change of g over it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

from torchplug import Objective
from torchplug_second_order.descents import Line, Newton, descending
from torchplug_second_order.linear_solvers import shifted_cholesky
from torchplug_second_order.method import Descent, Failure, Memory, Point
from torchplug_second_order.quasi_newton import LimitedBFGS, two_loops

_FEW = 32
"""With so few parameters a Hessian takes no longer than a gradient."""
_PAIRS = 30
_FRESH = 1e-2
"""By how much a step with a fresh Hessian shortens the gradient, when nothing is known."""
_LARGE = 10**7
"""Products n·p² from which on single precision is worth a thought."""
_INDEPENDENT = 1e-4
"""The least `independence`, for single precision to have three digits of it left."""
_SINGULAR = 1e-12
_RIDGE = 1e-6


class Curvature(NamedTuple):
    """A Hessian and its factor.

    Args:
        matrix: H + τI (s, s).
        factor: its Cholesky factor L (s, s), lower triangular.
        shift: τ ≥ 0, what made it positive definite; infinite where H is not finite.
    """

    matrix: Tensor
    factor: Tensor
    shift: float

    @property
    def independence(self) -> float:
        """The least share of a diagonal element that is not explained by the columns before."""
        return float((self.factor.diagonal().square() / self.matrix.diagonal()).min())


def curvature(objective: Objective, memory: Memory, subset: Tensor | None = None) -> Curvature:
    """∇²F where the parameters stand, made positive definite: in single precision where the data allow it.

    Its entries have then seven digits in units of the diagonal. That is enough if no column of the scaled matrix is
    nearly a combination of the others, which the factor's diagonal says. Where one is such a combination to all
    digits, the diagonal is raised by a millionth.

    Args:
        objective: gives ∇²F.
        memory: keeps whether double precision has turned out to be necessary.
        subset: increasing indices (s,) of the parameters it is wanted for; None: all.
    """
    size = objective.size if subset is None else len(subset)
    if not memory.get("needs_double") and objective.samples * size**2 >= _LARGE:
        found = _factorized(objective.hessian(torch.float32, subset))
        fine = found.shift == 0.0 and found.independence >= _INDEPENDENT
        # all ranks or none, even where their processors differ
        if bool(objective.broadcast(found.matrix.new_tensor([float(fine)]))):
            return found
        memory["needs_double"] = True
    found = _factorized(objective.hessian(torch.float64, subset))
    if found.shift == 0.0 and found.independence < _SINGULAR:
        return _factorized(found.matrix + _RIDGE * torch.diag(found.matrix.diagonal()))
    return found


def _factorized(matrix: Tensor) -> Curvature:
    factor, shift = shifted_cholesky(matrix.clone())
    if 0.0 < shift < math.inf:
        matrix = matrix + shift * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return Curvature(matrix, factor, shift)


def serves(memory: Memory, norm: float, cost: float) -> bool:
    r"""Whether what was computed some steps ago still pays, and take note of one more step.

        (‖g‖ / ‖g₀‖)^(1/k) ≤ 10^(−2/(1 + c))

    after k steps from ‖g₀‖: a fresh Hessian, in the time of c gradients, would reduce ‖g‖ a hundredfold.

    Args:
        memory: where steps are counted.
        norm: ‖g‖ now.
        cost: c.
    """
    steps: int = memory.setdefault("reuse_steps", 0)
    first: float = memory.setdefault("reuse_norm", norm)
    memory["reuse_steps"] = steps + 1
    return steps < 2 or norm <= first * math.pow(_FRESH, steps / (1.0 + cost))


def start_counting(memory: Memory) -> None:
    """What is kept was computed just now, or is to be judged anew."""
    memory.pop("reuse_steps", None)
    memory.pop("reuse_norm", None)


@final
class ReusedNewton(Descent[Line]):
    r"""Newton's direction from a Hessian that is kept while the gradient falls fast enough.

        d = −Bₖ⁻¹ g,    B₀ = H at some earlier point,    Bₖ₊₁ from Bₖ, s and y by the BFGS update

    With few parameters, where H is not positive definite, and where conjugate gradients are used instead of
    factors, it is Newton's method without reuse.

    Args:
        newton: how directions are found otherwise.

    Reference: Nocedal and Wright (2006), Numerical Optimization, section 6.1; chords instead of tangents: Kelley
    (1995), Iterative Methods for Linear and Nonlinear Equations, section 5.4.
    """

    def __init__(self, newton: Newton) -> None:
        self.newton = newton
        self._pairs = LimitedBFGS(_PAIRS)

    def refuse_size(self, size: int) -> None:
        """Refuse Hessians that do not fit."""
        self.newton.refuse_size(size)

    def refuse(self, objective: Objective) -> None:
        """Refuse Hessians that would take too long."""
        self.newton.refuse(objective)

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along the direction."""
        if objective.size <= _FEW or not self.newton.is_dense(objective):
            return self.newton.path(here, objective, memory)
        norm = float(here.gradient.norm())
        # first, as it counts
        if not serves(memory, norm, objective.hessian_cost) or "factor" not in memory:
            self._renew(objective, memory, norm)
        factor: Tensor | None = memory.get("factor")
        if factor is None:
            return self.newton.path(here, objective, memory)
        pairs = list(zip(memory.get("displacements", []), memory.get("changes", []), strict=True))
        direction = two_loops(
            here.gradient, pairs, lambda v: torch.cholesky_solve(v.unsqueeze(1), factor).squeeze(1)
        ).neg_()
        return descending(direction, here, objective, "check the loss's second derivative, or use lbfgs")

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Keep the pair, if there is a Hessian to correct."""
        if "factor" in memory:
            self._pairs.update(displacement, change, memory)

    def reset(self, memory: Memory) -> bool:
        """Drop Hessian and pairs; worth another try unless it was fresh and in double precision."""
        worn = memory.get("reuse_steps", 0) > 1 or not memory.get("needs_double")
        known = memory.pop("factor", None) is not None
        self._pairs.reset(memory)
        memory["needs_double"] = True
        return known and worn

    def _renew(self, objective: Objective, memory: Memory, norm: float) -> None:
        self._pairs.reset(memory)
        memory.pop("factor", None)
        found = curvature(objective, memory)
        start_counting(memory)
        serves(memory, norm, objective.hessian_cost)
        if found.shift == 0.0:
            memory["factor"] = found.factor
