r"""A test of a minimum that a quasi-Newton method claims: Newton's step by conjugate gradients.

Symbols: g = ∇F, H = ∇²F, d the solution of Hd = −g, θ parameters (p,).
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from torchplug import Objective, Outcome
from torchplug_second_order.descents import Line, descending
from torchplug_second_order.linear_solvers import EPSILON, truncated_cg
from torchplug_second_order.method import Descent, Failure, Memory, Point
from torchplug_second_order.stopping import is_short

_FORCING = 1e-3
"""Of ‖Hd + g‖, relative to ‖g‖."""
_EXACT = 1e-9
"""The same for few parameters: a large part of g in a steep direction must not hide a small one in a flat direction."""
_FEW = 128
_PRODUCTS = 500
_PRECISION = 1e-7
"""Of every parameter, relative to its largest magnitude so far: then nothing is left to refine."""
_LEAST_PRECISION = 1e-6
"""Relative to the largest parameter: less than that is no minimum."""
_ROUNDING = 4 * EPSILON
"""Of the first ‖g‖: less than that has no direction that means anything."""
_MOST = 10
"""Newton steps that may follow claims."""


@final
class Refined(Descent[Line]):
    r"""A quasi-Newton descent whose claims of a minimum are tested with products Hv.

    Where the curvature is slight, a quasi-Newton approximation can expect too small a decrease of F. At a claimed
    minimum, d with Hd = −g is an estimate of the error of θ. It is a minimum if

        −½gᵀd is negligible and ‖d‖∞ ≤ 10⁻⁶ ‖θ‖∞,    or    |dⱼ| ≤ 10⁻⁷ |θⱼ| for all j

    with the largest |θⱼ| of all points so far. Otherwise the next step is along d. Where rounding leaves no such step,
    ‖d‖∞ ≤ 10⁻⁶ ‖θ‖∞ is enough. Nothing is tested where ‖g‖ ≤ 4ε ‖g₀‖, with g₀ the first gradient and ε = 2⁻⁵².

    Args:
        descent: which way to go otherwise.

    Reference: Nocedal and Wright (2006), Numerical Optimization, section 7.1 (Newton's method by conjugate gradients).
    """

    def __init__(self, descent: Descent[Line]) -> None:
        self.descent = descent

    def refuse_size(self, size: int) -> None:
        """Refuse what the descent refuses."""
        self.descent.refuse_size(size)

    def refuse(self, objective: Objective) -> None:
        """Refuse what the descent refuses."""
        self.descent.refuse(objective)

    def path(self, here: Point, objective: Objective, memory: Memory) -> Line | Failure:
        """The line along Newton's step after a claim that was not confirmed, else the descent's."""
        memory.setdefault("first_norm", float(here.gradient.norm()))
        refinement: Tensor | None = memory.pop("refinement", None)
        if refinement is not None:
            line = descending(refinement, here, objective, "")
            if isinstance(line, Line):
                return line
        return self.descent.path(here, objective, memory)

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Take note of a step."""
        self.descent.update(displacement, change, memory)

    def reset(self, memory: Memory) -> bool:
        """Drop what was learnt."""
        return self.descent.reset(memory)

    def confirm(
        self, claim: Outcome, here: Point, objective: Objective, memory: Memory, negligible: float
    ) -> Outcome | None:
        """The claim, an outcome in its place, or None where another step is worth a try."""
        rounding = _ROUNDING * float(memory.get("first_norm", 0.0))
        if float(here.gradient.norm()) <= rounding:
            return claim
        step = _newton_step(objective, here.gradient, rounding)
        if step is None:
            return claim
        decrease = -0.5 * float(step @ here.gradient)
        error = float(step.abs().max()) / (float(memory["largest"].max()) or 1.0)
        if (decrease <= negligible and error <= _LEAST_PRECISION) or is_short(step, _PRECISION, memory["largest"]):
            return claim
        tried: Tensor | None = memory.get("refined_at")
        count = memory.get("refinements", 0)
        if count < _MOST and (tried is None or not torch.equal(tried, here.position)):
            memory["refinement"], memory["refined_at"], memory["refinements"] = step, here.position, count + 1
            return None
        if error <= _LEAST_PRECISION:
            return claim
        return Outcome(
            "stalled",
            f"rounding hides the decrease of the loss, with parameters off by about {error:.1g} of the largest",
            "use newton, scale the features, or add a penalty l2",
        )


def _newton_step(objective: Objective, gradient: Tensor, rounding: float) -> Tensor | None:
    """The solution d (p,), the same on all ranks; None where F has no second derivatives, or g is rounding error alone.

    Args:
        objective: F at the claimed minimum.
        gradient: g (p,).
        rounding: the rounding error of ‖g‖, below which no residual says anything.
    """
    limit = min(2 * objective.size, _PRODUCTS)
    norm = float(gradient.norm())
    attainable = 16.0 * rounding / norm
    forcing = min(_FORCING, max(_EXACT, attainable)) if objective.size <= _FEW else _FORCING
    try:
        step, _ = truncated_cg(objective.hvp, gradient, forcing, limit, objective.broadcast)
        residual = float(objective.broadcast((objective.hvp(step) + gradient).norm()))
    except (NotImplementedError, RuntimeError) as error:
        if "not implemented" in str(error):
            return None
        raise
    # in directions without curvature, rounding errors of g grow without bound
    return objective.broadcast(step) if residual <= 0.5 * norm else None
