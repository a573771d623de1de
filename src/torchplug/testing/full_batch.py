"""Checks of full-batch optimizers: they reach the minimum, say how they ended, and resume."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from torchplug.batch import Rows
from torchplug.components.builtin.losses import L1, MSE
from torchplug.objective import Objective
from torchplug.registry.component import Capability, Family, Iteration, Outcome
from torchplug.registry.foreign_code import one_line
from torchplug.testing.compared import require_close, require_equal, saved_and_loaded
from torchplug.testing.descent import OptimizerSubject
from torchplug.testing.record import NotRun, check, require

_MOST_STEPS = 500


class Plane:
    """A training set: a plane with noise."""

    samples = 60

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(2)
        self.features = torch.randn(self.samples, 3, generator=generator, dtype=torch.float64)
        noise = torch.randn(self.samples, 1, generator=generator, dtype=torch.float64)
        self.target = self.features.sum(1, keepdim=True) + 2.0 + 0.3 * noise

    @property
    def coefficients(self) -> Tensor:
        """The coefficients of least squares, the intercept last."""
        design = torch.cat([self.features, torch.ones(self.samples, 1, dtype=torch.float64)], dim=1)
        found: Tensor = torch.linalg.lstsq(design, self.target).solution[:, 0]
        return found

    def read(self, start: int, stop: int) -> Rows:
        """Return consecutive rows."""
        rows = slice(start, stop)
        return Rows(self.features[rows], self.target[rows], torch.ones(stop - start, dtype=torch.float64))


class FullBatchFit:
    """A linear model that a full-batch optimizer fits to a plane: least squares, or least absolute errors.

    Args:
        subject: the optimizer.
    """

    def __init__(self, subject: OptimizerSubject) -> None:
        self.network = nn.Linear(3, 1).double()
        for parameter in self.network.parameters():
            nn.init.constant_(parameter, 0.3)
        self.optimizer = subject.over(self.network)
        self._rows = Plane()
        self._loss = L1() if Capability.PIECEWISE_LINEAR in subject.capabilities else MSE()

    def steps(self, number: int) -> FullBatchFit:
        """Make some steps, or fewer if an outcome ends them."""
        for _ in range(number):
            if self.optimizer.outcome is not None:
                break
            self.optimizer.step(objective=self._objective())
        return self

    def must_step(self, number: int) -> FullBatchFit:
        """As `steps`.

        Raises:
            NotRun: if a step fails.
        """
        try:
            return self.steps(number)
        except Exception as error:
            raise NotRun("its step fails, see the check reaches_the_minimum") from error

    @property
    def coefficients(self) -> Tensor:
        """The present coefficients, the intercept last."""
        return torch.cat([p.detach().reshape(-1) for p in self.network.parameters()])

    @property
    def gap(self) -> float:
        """How far F at a better point is below F at the present one: among small moves of single coefficients."""
        objective = self._objective()
        value = float(objective.value())
        start = self.coefficients
        lowest = value
        for size in (1e-2, 1e-3, 1e-4):
            for unit in torch.eye(len(start), dtype=torch.float64):
                for sign in (-size, size):
                    lowest = min(lowest, self._value_at(start + sign * unit))
        self._move(start)
        return value - lowest

    def _value_at(self, point: Tensor) -> float:
        self._move(point)
        return float(self._objective().value())

    def _move(self, point: Tensor) -> None:
        with torch.no_grad():
            self.network.weight.copy_(point[:3].view(1, 3))
            self.network.bias.copy_(point[3:])

    def _objective(self) -> Objective:
        return Objective(self.network, self._loss, [], self._rows)


@check(Family.OPTIMIZER, capability=Capability.OBJECTIVE)
def reaches_the_minimum(subject: OptimizerSubject) -> None:
    """It ends with the outcome `converged` at the minimum of a convex F."""
    fit = FullBatchFit(subject).steps(_MOST_STEPS)
    outcome = fit.optimizer.outcome
    require(outcome is not None, f"after {_MOST_STEPS} steps it has no outcome: set it when a tolerance is met")
    require(outcome.name == "converged", f"on a convex problem its outcome is {outcome.name}: {outcome.reason}")
    if Capability.PIECEWISE_LINEAR not in subject.capabilities:
        remedy = "coefficients at convergence and by least squares (tighten the tolerance)"
        require_close(fit.coefficients, Plane().coefficients, remedy, relative=1e-5, absolute=1e-6)
    gap = fit.gap
    require(gap <= 1e-9, f"it says that it has converged, and F is {gap:.3g} lower at a point nearby")


@check(Family.OPTIMIZER, capability=Capability.OBJECTIVE)
def outcome_and_iteration_are_given(subject: OptimizerSubject) -> None:
    """`outcome` is None before the first step and then an Outcome; `iteration` describes the last step."""
    fit = FullBatchFit(subject)
    require(fit.optimizer.outcome is None, "`outcome` is set before the first step: begin with None")
    fit.must_step(1)
    iteration: Any = getattr(fit.optimizer, "iteration", None)
    require(isinstance(iteration, Iteration), f"`iteration` is {iteration!r} after a step: set a torchplug.Iteration")
    require(iteration.number == 1, f"`iteration.number` is {iteration.number} after the first step, and not 1")
    fit.must_step(_MOST_STEPS)
    outcome = fit.optimizer.outcome
    require(
        outcome is None or isinstance(outcome, Outcome), f"`outcome` is {outcome!r}: set a torchplug.Outcome or None"
    )
    require(outcome is None or outcome.reason, "`outcome` has no reason: give the evidence with numbers")


@check(Family.OPTIMIZER, capability=Capability.OBJECTIVE)
def full_batch_state_is_plain(subject: OptimizerSubject) -> None:
    """state_dict survives a weights-only load."""
    saved_and_loaded(FullBatchFit(subject).must_step(1).optimizer.state_dict(), "state_dict")


@check(Family.OPTIMIZER, capability=Capability.OBJECTIVE)
def full_batch_resumes(subject: OptimizerSubject) -> None:
    """A new instance with the saved state and weights goes on bit for bit, to the same outcome."""
    fit, other = FullBatchFit(subject).must_step(1), FullBatchFit(subject)
    other.network.load_state_dict(copy.deepcopy(fit.network.state_dict()))
    try:
        other.optimizer.load_state_dict(copy.deepcopy(fit.optimizer.state_dict()))
        other.steps(_MOST_STEPS)
    except Exception as error:
        raise AssertionError(f"resumed from its state it fails: {one_line(error)[:200]}") from error
    fit.must_step(_MOST_STEPS)
    ended: list[Any] = [
        (one.network.state_dict(), one.optimizer.outcome, one.optimizer.iteration) for one in (fit, other)
    ]
    require_equal(ended[1], ended[0], "resumed from its state it ends elsewhere: keep all that it remembers in `state`")


@check(Family.OPTIMIZER, capability=Capability.OBJECTIVE)
def stays_where_it_has_converged(subject: OptimizerSubject) -> None:
    """A step after an outcome changes neither the weights nor the outcome."""
    fit = FullBatchFit(subject).must_step(_MOST_STEPS)
    if fit.optimizer.outcome is None:
        raise NotRun("it has no outcome, see the check reaches_the_minimum")
    before = copy.deepcopy((fit.network.state_dict(), fit.optimizer.outcome))
    fit.optimizer.step(objective=fit._objective())
    require_equal(
        (fit.network.state_dict(), fit.optimizer.outcome), before, "a step after its outcome changes weights or outcome"
    )
