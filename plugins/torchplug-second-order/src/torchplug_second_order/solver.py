"""The driver of the iterative methods: one step is one accepted point.

A descent and a search, see `method`, are handed to `Solver`; the named optimizers are nothing but such constructors.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer, ParamsT

from torchplug import Iteration, Objective, Outcome
from torchplug_second_order.method import Descent, Failure, Memory, P, Path, Point, Search, Step
from torchplug_second_order.parameter_table import ParameterTable, keep_table, kept_table, parameter_table
from torchplug_second_order.plateau import plateau
from torchplug_second_order.regression_table import RegressionTable
from torchplug_second_order.separation import quasi_separation
from torchplug_second_order.stopping import ROUNDING, Stopping, is_short, negligible_decrease

_NEGLIGIBLE = 1e-8
"""A search that fails before a step of less than this share of every parameter has met rounding, not trouble."""


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
        outcome: how it ended; None while it has not. A finished solver takes no further step.
        iteration: the last step that was made; None before the first.
        statistics: standard errors of the parameters as they were trained; None before the solver has converged, and
            where they have no meaning: see `parameter_table`.

    Raises:
        ValueError: if there are more parameters than the descent can handle.

    Reference: Nocedal and Wright (2006), Numerical Optimization, chapters 3, 6, 7 and 10.
    Note: every decision is made on numbers that are equal on all ranks.
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
        """How it ended; None while it has not."""
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
