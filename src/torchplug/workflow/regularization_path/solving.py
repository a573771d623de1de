"""Minima along λ: by a factorization for least squares, by batches of λ for smooth losses, else by the optimizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchplug.components.contracts import implements
from torchplug.many.losses import takes_axes
from torchplug.registry.component import Outcome
from torchplug.training.threads import threads_of_steps
from torchplug.workflow.regularization_path.lasso import least_squares_path
from torchplug.workflow.regularization_path.newton import LinearScores, ridge_path
from torchplug.workflow.regularization_path.penalty import PathPenalty, SlopeStrengths, slope_strengths
from torchplug.workflow.regularization_path.problem import Problem


@dataclass(frozen=True, eq=False)
class Solutions:
    """Minima along a path.

    Args:
        points: parameters (L, p).
        stalled: where the optimizer could not converge: λ and why.
        method: how most of them were found, in words.
    """

    points: Tensor
    stalled: list[tuple[float, str]]
    method: str


def solve(problem: Problem, penalty: PathPenalty, grid: Sequence[float], steps: int) -> Solutions:
    """Find the minimum at each λ, each from the one before.

    Args:
        problem: the model and its rows; its parameters end at the last point.
        penalty: what varies.
        grid: L values of λ, from large to small.
        steps: the most steps of the optimizer at each λ.
    """
    network, objective = problem.module.network, problem.objective
    assert network is not None, "it is configured"
    with threads_of_steps(network, objective.samples, objective.point.device):
        points, solved, method = _at_once(problem, penalty, grid)
        if solved == len(grid):
            return Solutions(points, [], method)
        if solved:
            problem.put(points[solved - 1])
        rest, stalled = _one_by_one(problem, penalty, grid[solved:], steps)
    name = problem.module.resolved.optimizer.name
    return Solutions(torch.cat([points[:solved], rest]), stalled, method if solved else f"by {name}, from λ to λ")


def _at_once(problem: Problem, penalty: PathPenalty, grid: Sequence[float]) -> tuple[Tensor, int, str]:
    """Points, how many of them are minima, and how they were found."""
    linear, nothing = problem.linear, (torch.empty(0), 0, "")
    if linear is None:
        return nothing
    strengths = slope_strengths(problem.module, linear.weight, penalty, grid)
    if strengths is None:
        return nothing
    design = problem.objective.least_squares("qr")
    if design is not None:
        how = "by an active set" if any(strengths.l1) else "by one singular value decomposition"
        return *least_squares_path(design, strengths), f"{how} per fold, from one factorization of its rows"
    if not _has_batches(problem, strengths):
        return nothing
    objective = problem.objective
    scores = LinearScores(
        objective.training_set, problem.module.loss, objective.scale, intercept=linear.bias is not None
    )
    return *ridge_path(scores, strengths.l2, objective.point), "by Newton's method for several λ at once"


def _has_batches(problem: Problem, strengths: SlopeStrengths) -> bool:
    """Whether Newton's method for many λ is applicable: one score with derivatives, and smooth penalties."""
    loss, shape = problem.module.loss, problem.objective.linear_map
    known = implements(loss, "derivative") and implements(loss, "curvature") and takes_axes(loss)
    return known and loss.smooth and shape is not None and shape.outputs == 1 and not any(strengths.l1)


def _one_by_one(
    problem: Problem, penalty: PathPenalty, grid: Sequence[float], steps: int
) -> tuple[Tensor, list[tuple[float, str]]]:
    """Points (L, p) by the configuration's optimizer, each from the one before."""
    points, stalled = [], []
    for strength in grid:
        penalty.put(problem.module.regularizers, strength)
        problem.objective.penalties_changed()
        outcome = _minimize(problem, steps)
        if outcome is None or outcome.name != "converged":
            stalled.append((strength, f"{steps} steps were made" if outcome is None else outcome.reason))
        points.append(problem.objective.point)
    return torch.stack(points), stalled


def _minimize(problem: Problem, steps: int) -> Outcome | None:
    optimizer: Any = problem.module.build_optimizer()
    for _ in range(steps):
        optimizer.step(objective=problem.objective)
        if optimizer.outcome is not None:
            break
    outcome: Outcome | None = optimizer.outcome
    return outcome
