"""Minima along λ: by a factorization for least squares, by batches of λ for smooth losses, else by the optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchplug.components.contracts import implements
from torchplug.many.losses import takes_axes
from torchplug.registry.component import Outcome
from torchplug.training.threads import threads_of_factorization
from torchplug.workflow.regularization_path.lasso import least_squares_path
from torchplug.workflow.regularization_path.newton import Guide, RowLosses, ridge_path
from torchplug.workflow.regularization_path.penalty import PathPenalty, SlopeStrengths, slope_strengths
from torchplug.workflow.regularization_path.problem import Problem


@dataclass(frozen=True, eq=False)
class Minima:
    """Minima for some consecutive values of λ.

    Args:
        points: parameters (m, p).
        method: how they were found, in words.
        stalled: where the optimizer could not converge: λ and why.
    """

    points: Tensor
    method: str
    stalled: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Solver:
    """Finds minima along λ, each from the one before.

    Args:
        penalty: what varies.
        grid: L values of λ, from large to small.
        steps: the most steps of the optimizer at each λ.
    """

    penalty: PathPenalty
    grid: Sequence[float]
    steps: int

    def minima(self, problem: Problem, done: int = 0, guide: Guide | None = None) -> Iterator[Minima]:
        """Yield the minima from a λ on.

        Args:
            problem: the model and its rows; its parameters are the last minimum, and end at the smallest λ's.
            done: how many of λ are solved.
            guide: minima for all of λ of nearly the same rows.
        """
        for own in self._at_once(problem, done, guide):
            if len(own.points):
                yield own
                done += len(own.points)
                problem.put(own.points[-1])
        yield from self._one_by_one(problem, self.grid[done:])

    def guide(self, problem: Problem, points: Tensor) -> Guide | None:
        """The minima of a problem as a guide to those of others; None where none is needed.

        Args:
            problem: the model and its rows.
            points: minima for all of λ.
        """
        strengths = self.strengths(problem)
        if strengths is None or problem.objective.has_residuals:
            return None
        scores = _row_losses(problem, strengths)
        return None if scores is None else Guide(scores, points)

    def strengths(self, problem: Problem, done: int = 0) -> SlopeStrengths | None:
        """How penalties act on a linear model's slopes."""
        if problem.linear is None:
            return None
        return slope_strengths(problem.module, problem.linear.weight, self.penalty, self.grid[done:])

    def _at_once(self, problem: Problem, done: int, guide: Guide | None) -> Iterator[Minima]:
        """Minima of several λ together, as far as a method for that exists."""
        strengths = self.strengths(problem, done)
        if strengths is None:
            return
        sparse = any(strengths.l1)
        design = problem.least_squares("gram" if sparse else "qr")
        if design is not None:
            how = "by an active set" if sparse else "by one singular value decomposition"
            with threads_of_factorization(design.features):
                points = least_squares_path(design, strengths)
            yield Minima(points, f"{how} per fold, from one factorization of its rows")
        elif (scores := _row_losses(problem, strengths)) is not None:
            for points in ridge_path(scores, strengths.l2, problem.objective.point, None if done else guide):
                yield Minima(points, "by Newton's method for several λ at once")

    def _one_by_one(self, problem: Problem, grid: Sequence[float]) -> Iterator[Minima]:
        """Minima by the configuration's optimizer."""
        name = problem.module.resolved.optimizer.name
        for strength in grid:
            self.penalty.put(problem.module.regularizers, strength)
            problem.objective.penalties_changed()
            outcome = _minimize(problem, self.steps)
            stalled: tuple[tuple[float, str], ...] = ()
            if outcome is None or outcome.name != "converged":
                stalled = ((strength, f"{self.steps} steps were made" if outcome is None else outcome.reason),)
            yield Minima(problem.objective.point.unsqueeze(0), f"by {name}, from λ to λ", stalled)


def _row_losses(problem: Problem, strengths: SlopeStrengths) -> RowLosses | None:
    """The rows for Newton's method for many λ: one score with derivatives, and smooth penalties; else None."""
    loss, objective = problem.module.loss, problem.objective
    known = implements(loss, "derivative") and implements(loss, "curvature") and takes_axes(loss)
    shape = objective.linear_map
    if not known or not loss.smooth or shape is None or shape.outputs != 1 or any(strengths.l1):
        return None
    return RowLosses(objective.training_set, loss, objective.scale, shape.intercept)


def _minimize(problem: Problem, steps: int) -> Outcome | None:
    optimizer: Any = problem.module.build_optimizer()
    for _ in range(steps):
        optimizer.step(objective=problem.objective)
        if optimizer.outcome is not None:
            break
    outcome: Outcome | None = optimizer.outcome
    return outcome
