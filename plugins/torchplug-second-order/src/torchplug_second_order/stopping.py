"""When an iterative method stops, and what counts as rounding.

Symbols as in `method`.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, final

from torch import Tensor

from torchplug import Objective, Outcome
from torchplug_second_order.linear_solvers import EPSILON
from torchplug_second_order.method import Descent, Path, Point, Step

ROUNDING = 64 * EPSILON
"""Of F, relative: what sums over many rows in another order differ by."""
NOISE = 1e-10
"""Of F, relative: rounding of small residuals of large targets can be of this size."""
_FLATTER = 0.9
"""What a gradient is multiplied by, at most, over a step whose decrease of F is lost in rounding."""
_VANISHED = (8 * EPSILON) ** 2
"""Of the first F: a sum of squares below it consists of the rounding errors of its residuals."""


@final
@dataclasses.dataclass(frozen=True)
class Stopping:
    r"""When to stop: at the first of these.

        ½ ∇Fᵀ B⁻¹ ∇F ≤ gradient_tolerance² · |F| + (8ε)² |F₀|
        F − F⁺ ≤ loss_tolerance · |F|,  and so is the decrease that the model expected
        |Δθⱼ| ≤ step_tolerance · max |θⱼ| for all j,  if the search did not shorten the step

    B is the method's model of ∇²F, F₀ the loss at the start, ε = 2⁻⁵², and the last maximum that over all points so
    far. None of these changes with the units of the target or of a parameter. On the left of the first stands the
    decrease that the model still expects; for least squares, B = 2JᵀJ, it is ‖Pr‖² with P the projection onto the
    columns of J, so that the rule is ‖Pr‖ ≤ gradient_tolerance · ‖r‖ and implies MINPACK's
    maxⱼ |Jⱼᵀr| / (‖Jⱼ‖‖r‖) ≤ gradient_tolerance. The term with F₀ ends problems whose residuals can be zero. Where
    the model expects less than the rounding of F, steps continue as long as each reduces the gradient by a tenth.

    Args:
        gradient_tolerance: ≥ 0, dimensionless.
        step_tolerance: ≥ 0, relative.
        loss_tolerance: ≥ 0, relative.
        max_iterations: ≥ 0; None: the trainer's epochs decide.

    Raises:
        ValueError: if one is out of range.

    Reference: ∇FᵀB⁻¹∇F: Boyd and Vandenberghe (2004), Convex Optimization, section 9.5.1 (the Newton decrement);
    ‖Pr‖/‖r‖: Bates and Watts (1981), doi:10.1080/00401706.1981.10486270; relative steps: Dennis and Schnabel (1996),
    doi:10.1137/1.9781611971200, section 7.2; MINPACK: Moré (1978), doi:10.1007/BFb0067700.
    """

    gradient_tolerance: float = 1e-9
    step_tolerance: float = 1e-12
    loss_tolerance: float = 1e-14
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {value}")

    def at(
        self, here: Point, number: int, initial: float, descent: Descent[Any], objective: Objective
    ) -> Outcome | None:
        """Test a point, reached by `number` steps from one where F was `initial`."""
        if (outcome := descent.without_minimum(objective, here.value, initial)) is not None:
            return outcome
        if descent.is_stationary(here, objective, self.gradient_tolerance, initial):
            return Outcome(
                "converged", f"the gradient is zero to within gradient_tolerance={self.gradient_tolerance:g}"
            )
        if self.max_iterations is not None and number >= self.max_iterations:
            return Outcome("limit", f"{number} iterations are done", "raise max_iterations for more steps")
        return None

    def before(self, here: Point, path: Path, initial: float) -> Outcome | None:
        """Test what a path promises."""
        if path.predicted_reduction <= negligible_decrease(self.gradient_tolerance, here.value, initial):
            return Outcome(
                "converged",
                f"the gradient is zero to within gradient_tolerance={self.gradient_tolerance:g}: the model expects to "
                f"decrease the loss by no more than {path.predicted_reduction:.2g}",
            )
        return None

    def after(self, before: Point, there: Point, path: Path, step: Step, largest: Tensor) -> Outcome | None:
        """Test a step from one point to another; `largest` has max |θⱼ| over all points so far (p,)."""
        scale = self.loss_tolerance * abs(before.value)
        # the promise last, as some paths have to factorize for it
        slow = before.value - there.value <= scale and path.predicted_reduction <= scale
        if slow and (
            there.steepest > _FLATTER * before.steepest or path.predicted_reduction > ROUNDING * abs(before.value)
        ):
            return Outcome(
                "converged", f"the loss decreased by {before.value - there.value:.2g}, and no more is expected"
            )
        if step.full_step and is_short(step.displacement, self.step_tolerance, largest):
            return Outcome("converged", f"no parameter moved by more than {self.step_tolerance:g} of itself")
        return None


def negligible_decrease(tolerance: float, value: float, initial: float) -> float:
    """The expected decrease of F below which a point counts as a minimum: tolerance² · |F| + (8ε)² |F₀|."""
    return tolerance**2 * abs(value) + _VANISHED * abs(initial)


def flattens(before: Point, there: Point) -> bool:
    """Whether a step reduces the gradient by a tenth, and raises F by no more than rounding could."""
    rises = there.value > before.value + NOISE * abs(before.value)
    return there.is_finite and not rises and there.steepest <= _FLATTER * before.steepest


def is_short(displacement: Tensor, tolerance: float, largest: Tensor) -> bool:
    """Whether |Δθⱼ| ≤ tolerance · max |θⱼ| for all j."""
    return bool((displacement.abs() <= tolerance * largest).all())
