"""How far to go: along a line by Armijo's or Wolfe's conditions, along a damped curve by the gain ratio.

Symbols: φ(α) = F(θ + αd), so that φ′(0) is the line's slope.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

import torch

from torchplug import Objective, validate
from torchplug_second_order.damped import Damped
from torchplug_second_order.descents import Line
from torchplug_second_order.linear_solvers import EPSILON
from torchplug_second_order.method import NOTHING_LEFT, Failure, Memory, Point, Search, Step
from torchplug_second_order.stopping import NOISE, ROUNDING, flattens

_TRIALS = 40
_REMEDY = "scale features and target, add a penalty l2, or use another optimizer"


@final
class Fixed(Search[Line]):
    """A constant α, whatever it does to F; a scheduler may change it.

    Args:
        lr: α > 0, the multiple of the descent's direction.

    Raises:
        ValueError: if lr is not positive.
    """

    def __init__(self, lr: float = 1.0) -> None:
        validate.positive(lr=lr)
        self.defaults = {"lr": lr}

    def run(
        self, here: Point, path: Line, objective: Objective, memory: Memory, settings: Mapping[str, Any]
    ) -> Step | Failure:
        """Take the step, if F is finite there."""
        length: float = settings["lr"]
        displacement = length * path.direction
        objective.move(here.position + displacement)
        if not math.isfinite(objective.value()):
            return Failure(f"the loss is not finite after a step of {length:g}", "use a smaller lr, or search armijo")
        return Step(displacement, length, None, full_step=True)


@final
class Armijo(Search[Line]):
    r"""Backtracking: the first α of a decreasing sequence that makes F decrease enough.

        φ(α) ≤ φ(0) + c₁ α φ′(0)

    The sequence begins at the line's first α; the next is where a parabola through what is known has its minimum,
    and between a tenth and a half of the one before. Where φ is not finite, it is a tenth.

    Rounding can hide a decrease of less than 1e-10 |F|. Where the model expects no more, ∇F, which is far more
    accurate there, decides first, and alone if it expects less than 64ε|F|, with ε = 2⁻⁵²:

        φ(α) ≤ φ(0) + 1e-10 |φ(0)|    and    ‖∇F(θ + αd)‖∞ ≤ 0.9 ‖∇F(θ)‖∞

    Args:
        decrease: c₁ in (0, 1).
        value: gives φ at the current parameters; None: F.
        point: gives what takes the place of ∇F at the current parameters; None: ∇F.

    Raises:
        ValueError: if decrease is out of range.

    Reference: Armijo (1966), doi:10.2140/pjm.1966.16.1; Nocedal and Wright (2006), algorithm 3.1. Where rounding
    hides a decrease: Hager and Zhang (2005), doi:10.1137/030601880, section 2.
    """

    def __init__(
        self,
        decrease: float = 1e-4,
        value: Callable[[Objective], float] | None = None,
        point: Callable[[Objective], Point] | None = None,
    ) -> None:
        validate.between(0.0, 1.0, decrease=decrease)
        self.decrease = decrease
        self.value = value or (lambda objective: objective.value())
        self.point = point or Point.of

    def run(
        self, here: Point, path: Line, objective: Objective, memory: Memory, settings: Mapping[str, Any]
    ) -> Step | Failure:
        """Backtrack until F has decreased enough."""
        length = path.initial_step_size
        shortest = _shortest(here, path)
        for _ in range(_TRIALS):
            displacement = length * path.direction
            point = here.position + displacement
            if torch.equal(point, here.position):
                break
            objective.move(point)
            if length == path.initial_step_size and path.predicted_reduction <= NOISE * abs(here.value):
                if flattens(here, self.point(objective)):
                    return Step(displacement, length, None, full_step=True)
                if path.predicted_reduction <= ROUNDING * abs(here.value):
                    return NOTHING_LEFT
            value = self.value(objective)
            if value <= here.value + self.decrease * length * path.slope:
                return Step(displacement, length, None, full_step=length == path.initial_step_size)
            length *= _shortening(here.value, length * path.slope, value)
            if length <= shortest:
                break
        return _no_step(length)


def _shortening(before: float, promised: float, value: float) -> float:
    """Where in [0.1, 0.5] a parabola has its minimum, if F went from `before` to `value` and by `promised` at first."""
    if not math.isfinite(value):
        return 0.1
    return min(0.5, max(0.1, -0.5 * promised / (value - before - promised)))


class Trial(NamedTuple):
    """What is known at one α."""

    length: float
    value: float
    slope: float


@final
class StrongWolfe(Search[Line]):
    r"""An α that makes F decrease enough and leaves little slope.

        φ(α) ≤ φ(0) + c₁ α φ′(0)    and    |φ′(α)| ≤ c₂ |φ′(0)|

    α grows until it is too long, then the interval that must hold a solution shrinks by cubic interpolation. Where
    rounding leaves no such α, or F falls without bound, the best that decreases F enough is taken. Where the model
    expects a decrease of at most 1e-10 |F|, which rounding can hide, the first α is also taken if it reduces ∇F by a
    tenth.

    Args:
        decrease: c₁ in (0, c₂).
        curvature: c₂ in (c₁, 1); 0.9 for directions that bring their own length, 0.1 for others.

    Raises:
        ValueError: if they are out of range.

    Reference: Wolfe (1969), doi:10.1137/1011036; Nocedal and Wright (2006), algorithms 3.5 and 3.6.
    """

    def __init__(self, decrease: float = 1e-4, curvature: float = 0.9) -> None:
        validate.between(0.0, 1.0, curvature=curvature)
        validate.between(0.0, curvature, decrease=decrease)
        self.decrease = decrease
        self.curvature = curvature

    def run(
        self, here: Point, path: Line, objective: Objective, memory: Memory, settings: Mapping[str, Any]
    ) -> Step | Failure:
        """Bracket a solution, and close in on it."""
        if path.predicted_reduction <= NOISE * abs(here.value):
            displacement = path.initial_step_size * path.direction
            objective.move(here.position + displacement)
            if flattens(here, Point.of(objective)):
                return Step(displacement, path.initial_step_size, None, full_step=True)
        if path.predicted_reduction <= EPSILON * abs(here.value):
            return NOTHING_LEFT
        line = _Section(here, path, objective, self.decrease, self.curvature)
        found = _bracket(line, path.initial_step_size)
        if found.length == 0.0:
            return _no_step(line.last)
        displacement = found.length * path.direction
        if line.last != found.length:
            objective.move(here.position + displacement)
        return Step(displacement, found.length, None, full_step=found.length >= path.initial_step_size)


@final
class _Section:
    """φ along a line, and what is wanted of it; `last` is the α that the parameters stand at."""

    def __init__(self, here: Point, path: Line, objective: Objective, decrease: float, curvature: float) -> None:
        self.start = Trial(0.0, here.value, path.slope)
        self.shortest = _shortest(here, path)
        self.last = 0.0
        self._here, self._path, self._objective = here, path, objective
        self._decrease, self._curvature = decrease, curvature

    def trial(self, length: float) -> Trial:
        """φ and φ′ at α; an infinite φ where either is not finite."""
        self.last = length
        self._objective.move(self._here.position + length * self._path.direction)
        value, gradient = self._objective.evaluate()
        slope = float(self._objective.broadcast((gradient @ self._path.direction).reshape(1)))
        finite = math.isfinite(value) and math.isfinite(slope)
        return Trial(length, value if finite else math.inf, slope)

    def decreases(self, trial: Trial) -> bool:
        """The first condition."""
        return trial.value <= self.start.value + self._decrease * trial.length * self.start.slope

    def is_solved_by(self, trial: Trial) -> bool:
        """Both conditions."""
        return self.decreases(trial) and abs(trial.slope) <= self._curvature * abs(self.start.slope)


def _bracket(line: _Section, first: float) -> Trial:
    """A solution, or the best α there is (0 if none): grow until it is too long, then close in."""
    previous, length = line.start, first
    for _ in range(_TRIALS):
        current = line.trial(length)
        if line.is_solved_by(current):
            return current
        if not line.decreases(current) or (previous.length > 0.0 and current.value >= previous.value):
            return _close_in(line, previous, current)
        if current.slope >= 0.0:
            return _close_in(line, current, previous)
        length = min(10.0 * length, max(2.0 * length, _cubic_minimum(previous, current, otherwise=math.inf)))
        previous = current
    return previous


def _close_in(line: _Section, low: Trial, high: Trial) -> Trial:
    """A solution, or the best α there is (0 if none), between the best so far and one beyond a solution."""
    for _ in range(_TRIALS):
        nearest, farthest = sorted((low.length, high.length))
        width = farthest - nearest
        if width <= EPSILON * farthest or farthest <= line.shortest:
            break
        share = 0.5 if math.isfinite(high.value) else 0.1
        guess = _cubic_minimum(low, high, otherwise=low.length + share * (high.length - low.length))
        current = line.trial(min(farthest - 0.1 * width, max(nearest + 0.1 * width, guess)))
        if line.is_solved_by(current):
            return current
        if not line.decreases(current) or current.value >= low.value:
            high = current
            continue
        if current.slope * (high.length - low.length) >= 0.0:
            high = low
        low = current
    return low


def _shortest(here: Point, path: Line) -> float:
    """The α below which a decrease of F would be lost in rounding."""
    return 0.5 * EPSILON * abs(here.value) / -path.slope


def _no_step(length: float) -> Failure:
    return Failure(f"no step along the direction, down to {length:.2g} of it, decreased the loss", _REMEDY)


def _cubic_minimum(a: Trial, b: Trial, otherwise: float) -> float:
    """Where the cubic through two values and slopes has its minimum."""
    if not (math.isfinite(a.value) and math.isfinite(b.value)):
        return otherwise
    first = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.length - b.length)
    square = first * first - a.slope * b.slope
    if square < 0.0:
        return otherwise
    second = math.copysign(math.sqrt(square), b.length - a.length)
    divisor = b.slope - a.slope + 2.0 * second
    if divisor == 0.0:
        return otherwise
    return b.length - (b.length - a.length) * (b.slope + second - first) / divisor


@final
class GainRatio(Search[Damped]):
    r"""The damping by which the linear model and F agree: a trust region in Levenberg's form.

        ρ = (F − F⁺) / (F − ‖r + JΔ‖²)
        accepted, if F⁺ < F:    μ ← μ max(⅓, 1 − (2ρ − 1)³)
        rejected:               μ ← νμ, ν ← 2ν, from ν = 2 on; from the tenth rejection on ν = 10

    Rounding can hide a decrease of less than 1e-10 F. Where the linear model expects no more, a step is also accepted
    if F rises no more than that and the gradient falls by a tenth; training ends where it expects less than 64ε F.

    Args:
        damping: μ at the start, > 0, relative to the curvature.
        point: gives F and the gradient at the current parameters; None: ∇F.

    Raises:
        ValueError: if damping is not positive.

    Reference: Nielsen (1999), Damping parameter in Marquardt's method, IMM-REP-1999-05.
    Note: a step that raises F by more is never accepted. That ν stops doubling is ours: a start far off needs many
    rejections, and a doubling ν would jump over the damping that is needed.
    """

    def __init__(self, damping: float = 1e-3, point: Callable[[Objective], Point] | None = None) -> None:
        validate.positive(damping=damping)
        self.damping = damping
        self.point = point or Point.of

    def run(
        self, here: Point, path: Damped, objective: Objective, memory: Memory, settings: Mapping[str, Any]
    ) -> Step | Failure:
        """Raise the damping until F decreases."""
        damping: float = memory.get("damping") or self.damping * path.unit
        growth = 2.0
        for trial in range(_TRIALS):
            displacement = objective.broadcast(path.at(damping))
            point = here.position + displacement
            if torch.equal(point, here.position):
                break
            if bool(displacement.isfinite().all()):
                predicted = path.predicted(displacement, damping)
                objective.move(point)
                value = objective.value()
                if trial == 0 and predicted <= NOISE * abs(here.value):
                    if flattens(here, self.point(objective)):
                        memory["damping"] = max(damping / 3.0, EPSILON * path.unit)
                        return Step(displacement, None, damping, full_step=damping <= path.unit)
                    # damping that was right farther off, where the model was not, can make steps too short here
                    objective.move(here.position + path.full_step)
                    if path.predicted_reduction <= NOISE * abs(here.value) and flattens(here, self.point(objective)):
                        return Step(objective.point - here.position, None, 0.0, full_step=True)
                    objective.move(point)
                    if path.predicted_reduction <= ROUNDING * abs(here.value):
                        return NOTHING_LEFT
                if value < here.value:
                    ratio = (here.value - value) / predicted
                    following = damping * max(1.0 / 3.0, 1.0 - (2.0 * ratio - 1.0) ** 3)
                    memory["damping"] = max(following, EPSILON * path.unit)
                    return Step(displacement, None, damping, full_step=trial == 0 and damping <= path.unit)
            damping *= growth
            growth = 2.0 * growth if trial < 9 else 10.0
        return Failure(f"no damping up to {damping:.2g} gave a step that decreased the loss", _REMEDY)
