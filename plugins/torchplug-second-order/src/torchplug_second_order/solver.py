r"""The driver of the iterative methods: one step is one accepted point.

A method is a composition: a descent says which way to go from what is known at a point, a search how far.
Both are handed to `Solver`; the named optimizers are nothing but such constructors.

Symbols: θ parameters (p,), F the training objective, d a direction, α a step along it, μ a damping.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar, final

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from torchplug import Iteration, Objective, Outcome
from torchplug_second_order.linear_solvers import EPSILON
from torchplug_second_order.parameter_table import ParameterTable, keep_table, kept_table, parameter_table
from torchplug_second_order.plateau import plateau
from torchplug_second_order.regression_table import RegressionTable
from torchplug_second_order.separation import quasi_separation, separation

Memory = dict[str, Any]
"""What a method keeps between steps: Python numbers, tensors, lists of tensors."""

ROUNDING = 64 * EPSILON
"""Of F, relative: what sums over many rows in another order differ by."""
NOISE = 1e-10
"""Of F, relative: rounding of small residuals of large targets can be of this size."""
_FLATTER = 0.9
"""What a gradient is multiplied by, at most, over a step whose decrease of F is lost in rounding."""
_NEGLIGIBLE = 1e-8
"""A search that fails before a step of less than this share of every parameter has met rounding, not trouble."""
_VANISHED = (8 * EPSILON) ** 2
"""Of the first F: a sum of squares below it consists of the rounding errors of its residuals."""


class Point(NamedTuple):
    """What is known where the parameters stand.

    Args:
        position: θ (p,).
        value: F.
        gradient: ∇F (p,).
        steepest: ‖∇F‖∞, or what the descent takes in its place.
    """

    position: Tensor
    value: float
    gradient: Tensor
    steepest: float

    @classmethod
    def of(cls, objective: Objective) -> Point:
        """Where the objective's parameters stand."""
        value, gradient = objective.evaluate()
        return cls(objective.point, value, gradient, float(gradient.abs().max()))

    @property
    def is_finite(self) -> bool:
        """Whether F and ∇F are."""
        return math.isfinite(self.value) and math.isfinite(self.steepest)


class Step(NamedTuple):
    """A displacement that was accepted.

    Args:
        displacement: what was added to θ (p,).
        length: α, where there is one.
        damping: μ, where there is one.
        full_step: whether it is as long as the descent wanted it, so that its length says how far the minimum is.
    """

    displacement: Tensor
    length: float | None
    damping: float | None
    full_step: bool


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no step, as a value.

    Args:
        reason: what was found.
        remedy: what to do about it.
    """

    reason: str
    remedy: str


class Path(ABC):
    """Where a descent leads from a point; how far along it, a search decides."""

    @property
    @abstractmethod
    def predicted_reduction(self) -> float:
        """The decrease of F that the local model expects of the undamped step, or an upper bound of it."""

    @property
    @abstractmethod
    def full_step(self) -> Tensor:
        """The displacement to the local model's minimum (p,): an estimate of the error of θ."""


NOTHING_LEFT = Failure("the local model sees no decrease of the loss beyond rounding", "scale features and target")
"""What a search answers to a path that promises nothing."""

P = TypeVar("P", bound=Path)


class Descent(ABC, Generic[P]):
    """Which way to go.

    Attributes:
        ends_by_promise: whether a path that promises nothing more than the tolerance says that θ is a minimum.
    """

    ends_by_promise: bool = True

    def evaluate(self, objective: Objective) -> None:
        """Ask at a new point for what the next path needs; F and ∇F should follow from the same pass."""
        objective.evaluate()

    def point(self, objective: Objective) -> Point:
        """What is known where the parameters stand; what is to be minimized need not be the objective alone."""
        return Point.of(objective)

    def confirm(
        self, claim: Outcome, here: Point, objective: Objective, memory: Memory, negligible: float
    ) -> Outcome | None:
        """Test a minimum that the stopping rules claim: the claim, another outcome, or None to go on.

        Args:
            claim: the outcome by the stopping rules.
            here: the current point.
            objective: at that point.
            memory: kept between steps.
            negligible: an expected decrease of F below which a point counts as a minimum.
        """
        return claim

    def without_minimum(self, objective: Objective, value: float, initial: float) -> Outcome | None:
        """An outcome where F turns out to have no minimum, else None.

        Args:
            objective: at the current point.
            value: F there.
            initial: F at the start.
        """
        return separation(objective, value, initial)

    def is_stationary(self, here: Point, objective: Objective, tolerance: float, initial: float) -> bool:
        """Whether a point is a minimum to within a tolerance; by default only where ∇F is zero.

        Args:
            here: the current point.
            objective: at that point.
            tolerance: dimensionless, ≥ 0.
            initial: F at the start.
        """
        return here.steepest == 0.0

    @abstractmethod
    def path(self, here: Point, objective: Objective, memory: Memory) -> P | Failure:
        """The way to go from a point; the same bits on every rank."""

    def update(self, displacement: Tensor, change: Tensor, memory: Memory) -> None:
        """Take note of an accepted displacement (p,) and of the change of ∇F (p,) over it."""

    def reset(self, memory: Memory) -> bool:
        """Drop what was learnt; whether a search that failed is worth another try without it."""
        return False

    def refuse_size(self, size: int) -> None:
        """Refuse a number of parameters that cannot be handled.

        Raises:
            ValueError: saying what it would take and what to use instead.
        """

    def refuse(self, objective: Objective) -> None:
        """Refuse an objective that cannot be handled, before the first step.

        Raises:
            ValueError: saying what it would take and what to use instead.
        """


class Search(ABC, Generic[P]):
    """How far to go.

    Attributes:
        defaults: what of its numbers a scheduler may change while training goes on.
    """

    defaults: Mapping[str, float] = {}

    @abstractmethod
    def run(
        self, here: Point, path: P, objective: Objective, memory: Memory, settings: Mapping[str, Any]
    ) -> Step | Failure:
        """Find a step along the path, and leave the parameters where it leads; after a failure, anywhere.

        Args:
            here: where the path begins.
            path: what the descent offers.
            objective: evaluates trials.
            memory: kept between steps.
            settings: the current values of `defaults`.
        """


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
    the model expects less than the rounding of F, steps go on as long as each reduces the gradient by a tenth.

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


class Solver(Optimizer):
    r"""Minimize the training objective by a descent and a search.

        θ ← θ + Δ,    Δ from `search` along `descent`'s path

    A failure is an outcome and no exception: the parameters are then those of the last good point.

    Args:
        params: what to optimize.
        descent: which way to go.
        search: how far; it must know the descent's kind of path.
        stopping: when to stop.

    Attributes:
        outcome: how it ended; None while it goes on. A finished solver takes no further step.
        iteration: the last step that was made; None before the first.
        statistics: standard errors of the parameters as they were trained; None before the solver has converged, and
            where they have no meaning: see `parameter_table`.

    Raises:
        ValueError: if there are more parameters than the descent can handle.

    Reference: Nocedal and Wright (2006), Numerical Optimization, chapters 3, 6, 7 and 10.
    Note: every decision is made on numbers that the objective gives alike on all ranks.
    """

    def __init__(
        self, params: ParamsT, descent: Descent[P], search: Search[P], stopping: Stopping | None = None
    ) -> None:
        super().__init__(params, dict(search.defaults))
        self.descent: Descent[Any] = descent
        self.search: Search[Any] = search
        self.stopping = Stopping() if stopping is None else stopping
        descent.refuse_size(sum(p.numel() for group in self.param_groups for p in group["params"]))

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it goes on."""
        # Under a key of its own: what is kept per parameter comes back from a checkpoint with its texts spoilt.
        saved = self.state.get("outcome")  # type: ignore[call-overload]
        return Outcome(**saved) if saved else None

    @property
    def iteration(self) -> Iteration | None:
        """The last step that was made; None before the first."""
        saved = self._memory.get("iteration")
        return Iteration(**saved) if saved else None

    @property
    def statistics(self) -> RegressionTable | ParameterTable | None:
        """Standard errors of the parameters as they were trained, where there are any: see `parameter_table`."""
        return kept_table(self)

    @property
    def _memory(self) -> Memory:
        memory: Memory = self.state[self.param_groups[0]["params"][0]]
        return memory

    def refuse(self, objective: Objective) -> None:
        """Refuse an objective that cannot be handled, before the first step.

        Raises:
            ValueError: saying what it would take and what to use instead.
        """
        self.descent.refuse(objective)

    @torch.no_grad()
    def step(self, *, objective: Objective) -> None:  # type: ignore[override]
        """Make one accepted step, or come to an outcome."""
        if self.outcome is not None:
            return
        evaluated = objective.evaluations
        self.descent.evaluate(objective)
        if self.iteration is not None:
            # the step before has evaluated this point; a resumed fit does so again, and it counts once
            evaluated = objective.evaluations
        outcome = self._advance(objective, evaluated)
        if outcome is not None:
            outcome = self._examined(outcome, objective)
            self.state["outcome"] = dict(vars(outcome))  # type: ignore[index]

    def _examined(self, outcome: Outcome, objective: Objective) -> Outcome:
        """The outcome, or another where a claimed minimum is none; at a minimum, standard errors are kept."""
        if outcome.name != "converged":
            return outcome
        doubt = plateau(objective, objective.value(), self._memory["initial_loss"]) or quasi_separation(objective)
        if doubt is None:
            keep_table(self, parameter_table(objective))
        return doubt or outcome

    def _advance(self, objective: Objective, evaluated: int) -> Outcome | None:
        memory = self._memory
        if memory.setdefault("size", objective.size) != objective.size:  # layers were frozen or unfrozen
            self.descent.reset(memory)
            memory["size"] = objective.size
        here = self.descent.point(objective)
        if not here.is_finite:
            return Outcome(
                "stalled", "the loss or its gradient is not finite at the start", "check data and initial weights"
            )
        initial = memory.setdefault("initial_loss", here.value)
        number = self.iteration.number if self.iteration else 0
        outcome = self.stopping.at(here, number, initial, self.descent, objective)
        if outcome is not None:
            return outcome
        memory["largest"] = _largest(memory, here)
        found = self._find(here, objective)
        if isinstance(found, Outcome):
            return found
        path, step, there = found
        self.descent.update(step.displacement, there.gradient - here.gradient, memory)
        memory["evaluations"] = memory.get("evaluations", 0) + objective.evaluations - evaluated
        norm = float(there.gradient.norm())
        iteration = Iteration(number + 1, there.value, norm, step.length, step.damping, memory["evaluations"])
        memory["iteration"] = dict(vars(iteration))
        memory["largest"] = _largest(memory, there)
        outcome = self.stopping.at(there, number + 1, initial, self.descent, objective)
        if outcome is not None and outcome.name != "limit":
            return outcome
        claim = self.stopping.after(here, there, path, step, memory["largest"])
        return (claim and self._confirm(claim, there, objective)) or outcome

    def _confirm(self, claim: Outcome, here: Point, objective: Objective) -> Outcome | None:
        memory = self._memory
        negligible = negligible_decrease(self.stopping.gradient_tolerance, here.value, memory["initial_loss"])
        return self.descent.confirm(claim, here, objective, memory, negligible)

    def _find(self, here: Point, objective: Objective) -> tuple[Path, Step, Point] | Outcome:
        """A path, a step along it and where it leads; if there is none, the parameters are put back."""
        memory = self._memory
        rounding = False
        while True:
            path = self.descent.path(here, objective, memory)
            if isinstance(path, Path) and self.descent.ends_by_promise:
                claim = self.stopping.before(here, path, memory["initial_loss"])
                if claim is not None:
                    outcome = self._confirm(claim, here, objective)
                    if outcome is not None:
                        return outcome
                    continue
            found = path if isinstance(path, Failure) else self._follow(here, path, objective)
            if not isinstance(found, Failure):
                return path, *found  # type: ignore[return-value]
            objective.move(here.position)
            if isinstance(path, Path):
                rounding = (
                    rounding
                    or path.predicted_reduction <= ROUNDING * abs(here.value)
                    or is_short(path.full_step, _NEGLIGIBLE, memory["largest"])
                )
            if self.descent.reset(memory):
                continue
            if not rounding:
                break
            claim = Outcome("converged", f"{found.reason}: what is left is rounding")
            outcome = self._confirm(claim, here, objective)
            if outcome is not None:
                return outcome
        return Outcome("stalled", found.reason, found.remedy)

    def _follow(self, here: Point, path: Path, objective: Objective) -> tuple[Step, Point] | Failure:
        step = self.search.run(here, path, objective, self._memory, self.param_groups[0])
        if isinstance(step, Failure):
            return step
        self.descent.evaluate(objective)
        there = self.descent.point(objective)
        if not there.is_finite:
            return Failure("the gradient after the step is not finite", "check the loss and the model's activations")
        return step, there


def _largest(memory: Memory, here: Point) -> Tensor:
    """The largest |θⱼ| of all points so far (p,)."""
    known: Tensor | None = memory.get("largest")
    magnitude = here.position.abs()
    return magnitude if known is None or len(known) != len(magnitude) else torch.maximum(known, magnitude)
