"""A path of a full-batch optimizer: all rows, then fold after fold, from λ to λ."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.objective.least_squares import Method
from torchplug.training.threads import threads_of_steps
from torchplug.workflow.regularization_path.coefficients import along
from torchplug.workflow.regularization_path.kept import Done, Kept
from torchplug.workflow.regularization_path.leave_one_out import LeftOut, factorized, left_out
from torchplug.workflow.regularization_path.newton import Guide
from torchplug.workflow.regularization_path.plan import Plan
from torchplug.workflow.regularization_path.problem import Problem
from torchplug.workflow.regularization_path.result import Traced
from torchplug.workflow.regularization_path.shared import SharedRows
from torchplug.workflow.regularization_path.solving import Minima, Solver
from torchplug.workflow.unfinished import Unfinished

_WHOLE = "all rows"


@dataclass(frozen=True, eq=False)
class FullBatchPath:
    """Fits along λ.

    Args:
        plan: what is asked for.
        kept: what is done.
    """

    plan: Plan
    kept: Kept

    def refuse(self) -> None:
        """Refuse leaving out rows one by one for what is not ridge regression.

        Raises:
            TorchplugError: so, and for a table that cannot be used.
        """
        if self.plan.folds != "loo":
            return
        problem = self._whole
        if problem is None or self.plan.metric != "loss" or not factorized(problem, self._solver.strengths(problem)):
            raise ConfigurationError(
                "folds loo is exact for ridge regression by metric loss: a linear model, the loss mse, l2 on its "
                "slopes and a full-batch optimizer such as closed_form; give a number of folds"
            )

    def trace(self) -> Traced:
        """Fit along λ what is not fitted yet.

        Raises:
            DataError: for a fold that cannot be used.
            Unfinished: if a signal stopped it; what is done is kept.
        """
        with _signals_wait():
            try:
                return self._traced()
            except KeyboardInterrupt as stop:
                if interruption.requested():
                    interruption.reach_boundary()
                self.kept.save()
                raise Unfinished(self.kept.run) from stop

    def _traced(self) -> Traced:
        whole, points, guide = self._whole, None, None
        if whole is not None:
            points = self._go(_WHOLE, whole, None).points
            assert points is not None, "there is λ"
            guide = self._solver.guide(whole, points)
        folds = [] if self.plan.folds == "loo" else [self._of_fold(number, guide) for number in self._shown()]
        return Traced(
            folds=[list(done.metrics) for done in folds],
            coefficients=along(whole, self.plan.grid, points) if whole is not None and points is not None else None,
            left_out=self._left_out,
            notes=self._notes([_WHOLE, *(f"fold {number}" for number in range(len(folds)))]),
        )

    # ------------------------------------------------------------------ parts

    @cached_property
    def _solver(self) -> Solver:
        return Solver(self.plan.penalty, self.plan.grid, self.plan.steps)

    @cached_property
    def _rows(self) -> TabularData:
        """All rows of the folds, as training rows."""
        parts = [part for fold in self.plan.divided for part in fold]
        rows = np.sort(np.concatenate(parts), kind="stable")  # a merge: each part is ascending
        rows = rows[np.flatnonzero(np.diff(rows, prepend=rows[0] - 1))]
        return self.plan.data.fold(rows, rows[:0])

    @cached_property
    def _whole(self) -> Problem | None:
        """The model on all rows, if it is linear."""
        if not self.plan.is_linear:
            return None
        problem = Problem.of(self.plan, self._rows)
        if problem.linear is None:
            return None
        return problem if self.plan.folds == "loo" else replace(problem, factor=self._factor_of_parts)

    def _factor_of_parts(self, method: Method) -> Tensor | None:
        """R of all rows by that of the parts which folds consist of, so that these are read once."""
        return None if self._shared is None else self._shared.factor(method)

    @cached_property
    def _shared(self) -> SharedRows | None:
        """The folds, where one encoding of the rows serves all of them."""
        return None if self._whole is None else SharedRows.of(self._whole, self._rows, self.plan.divided)

    @cached_property
    def _left_out(self) -> LeftOut | None:
        return None if self._whole is None else left_out(self._whole, self._solver.strengths(self._whole))

    def _of_fold(self, number: int, guide: Guide | None) -> Done:
        name = f"fold {number}"
        if (done := self.kept.done(name)).solved == len(self.plan.grid):
            return done
        if self._shared is not None:
            return self._go(name, self._shared.problem(number), guide)
        problem = Problem.of(self.plan, self.plan.data.fold(*self.plan.divided[number]))
        return self._go(name, problem, guide)

    def _go(self, name: str, problem: Problem, guide: Guide | None) -> Done:
        """Solve a part for the values of λ that are not solved yet."""
        done = self.kept.done(name)
        if done.points is not None:
            problem.put(done.points[-1])
        network, objective = problem.module.network, problem.objective
        assert network is not None, "it is configured"
        with threads_of_steps(network, objective.samples, objective.point.device):
            for found in self._solver.minima(problem, done.solved, guide):
                done = self._with(found, done, problem, keeps_all=name == _WHOLE)
                self.kept.add(name, done)
                if interruption.requested():
                    raise KeyboardInterrupt
        return done

    def _with(self, found: Minima, done: Done, problem: Problem, keeps_all: bool) -> Done:
        """What is done with further minima; of a fold the last point is kept, and the metrics of all."""
        if keeps_all:
            points = found.points if done.points is None else torch.cat([done.points, found.points])
            metrics: tuple[float, ...] = ()
        else:
            points, metrics = found.points[-1:].clone(), tuple(problem.metric(self.plan.metric, found.points))
        return replace(
            done,
            solved=done.solved + len(found.points),
            points=points,
            metrics=done.metrics + metrics,
            stalled=done.stalled + found.stalled,
            method=done.method or found.method,
        )

    # ------------------------------------------------------------------ what is said

    def _shown(self) -> Iterator[int]:
        """The numbers of the folds, with their progress on a terminal."""
        console, numbers = Console(stderr=True), range(len(self.plan.divided))
        if not (console.is_terminal and self.plan.settings.shows_progress):
            yield from numbers
            return
        text = f"{len(self.plan.grid)} λ × {len(numbers)} folds"
        yield from track(numbers, description=text, console=console, transient=True)

    def _notes(self, parts: list[str]) -> list[str]:
        """How minima were found, and where there are none."""
        found = {name: done for name in parts if (done := self.kept.done(name)).solved}
        notes = [f"solved {done.method}" for done in list(found.values())[-1:]]
        for name, done in found.items():
            if done.stalled:
                strength, reason = done.stalled[0]
                notes.append(f"{name}: no minimum at {len(done.stalled)} λ, such as {strength:.3g}: {reason}")
        return notes


@contextmanager
def _signals_wait() -> Iterator[None]:
    """A signal waits for the next minimum, so that all before it are kept."""
    if not interruption.is_handled():
        yield
        return
    interruption.defer(alone=True)
    try:
        yield
    finally:
        interruption.no_longer_defer()
