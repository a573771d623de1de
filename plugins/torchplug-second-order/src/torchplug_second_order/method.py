"""What a method is composed of: a descent says which way to go from what is known at a point, a search how far.

Symbols: θ parameters (p,), F the training objective, d a direction, α a step along it, μ a damping.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from torchplug import Objective, Outcome
from torchplug_second_order.separation import separation

Memory = dict[str, Any]
"""What a method keeps between steps: Python numbers, tensors, lists of tensors."""


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
        """Test a minimum that the stopping rules claim: the claim, another outcome, or None to continue.

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
        defaults: what of its numbers a scheduler may change during training.
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
