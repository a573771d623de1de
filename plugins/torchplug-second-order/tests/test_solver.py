import copy
import math

import pytest
import torch
from analytic_objective import AnalyticObjective, minimize
from classic_problems import START, network, rosenbrock
from torch import nn

from torchplug import Outcome
from torchplug_second_order.descents import Given, Newton, Steepest
from torchplug_second_order.optimizers import (
    bfgs,
    gauss_newton,
    lbfgs,
    levenberg,
    levenberg_marquardt,
    line_search,
    newton,
)
from torchplug_second_order.searches import Armijo, Fixed
from torchplug_second_order.solver import Solver
from torchplug_second_order.stopping import Stopping

OPTIMIZERS = [
    line_search,
    newton,
    lambda p, **s: newton(p, linear_solver="cg", **s),
    lambda p, **s: newton(p, search="fixed", lr=0.5, **s),
    bfgs,
    lbfgs,
    gauss_newton,
    levenberg,
    levenberg_marquardt,
]
NAMES = ["line_search", "newton", "newton cg", "newton fixed", "bfgs", "lbfgs", "gauss_newton", "levenberg", "lm"]


@pytest.fixture(params=OPTIMIZERS, ids=NAMES)
def make(request):
    return request.param


def run(optimizer, objective, steps):
    for _ in range(steps):
        optimizer.step(objective=objective)


class TestStep:
    def test_an_iteration_is_recorded(self, make):
        objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
        optimizer = make([objective.parameter])
        assert optimizer.iteration is None
        run(optimizer, objective, 3)
        iteration = optimizer.iteration
        assert iteration.number == 3
        assert iteration.loss == objective.value()
        assert iteration.gradient_norm == pytest.approx(float(objective.gradient().norm()))
        assert iteration.evaluations == objective.evaluations
        assert (iteration.step is None) != (iteration.damping is None)

    def test_a_start_that_is_optimal(self, make):
        objective = AnalyticObjective([1.0, 1.0], residuals=rosenbrock)
        optimizer = make([objective.parameter])
        run(optimizer, objective, 1)
        assert optimizer.outcome.name == "converged"
        assert optimizer.iteration is None
        assert objective.point.tolist() == [1.0, 1.0]

    def test_finished_is_finished(self, make):
        objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
        optimizer = make([objective.parameter], max_iterations=2)
        run(optimizer, objective, 2)
        assert optimizer.outcome == Outcome("limit", "2 iterations are done", "raise max_iterations for more steps")
        there = objective.point
        run(optimizer, objective, 2)
        assert torch.equal(objective.point, there)
        assert optimizer.iteration.number == 2

    def test_a_start_that_is_not_finite(self, make):
        objective = AnalyticObjective([1.0, 1.0], residuals=lambda t: t / 0.0)
        optimizer = make([objective.parameter])
        run(optimizer, objective, 1)
        assert optimizer.outcome.name == "stalled"
        assert "not finite at the start" in optimizer.outcome.reason
        assert objective.point.tolist() == [1.0, 1.0]

    def test_where_every_step_fails_the_parameters_are_restored(self, make):
        objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
        optimizer = make([objective.parameter])
        run(optimizer, objective, 2)
        there, before = objective.point, optimizer.iteration
        value, evaluate = objective.value, objective.evaluate
        objective.value = lambda: value() if torch.equal(objective.point, there) else math.nan
        objective.evaluate = lambda: (objective.value(), evaluate()[1])
        run(optimizer, objective, 1)
        assert optimizer.outcome.name == "stalled"
        assert optimizer.outcome.reason
        assert optimizer.outcome.remedy
        assert torch.equal(objective.point, there)
        assert optimizer.iteration == before

    def test_several_parameters_and_groups(self):
        weights = [nn.Parameter(torch.ones(2, dtype=torch.float64)), nn.Parameter(torch.ones(3, dtype=torch.float64))]
        optimizer = line_search([{"params": weights[:1]}, {"params": weights[1:]}])
        assert list(optimizer.state) == []
        assert optimizer.outcome is None


class TestCheckpoint:
    @pytest.mark.parametrize("steps", [0, 1, 4])
    def test_resuming_gives_the_same_bits(self, make, steps, tmp_path):
        straight = AnalyticObjective(START[network], residuals=network)
        optimizer = make([straight.parameter])
        run(optimizer, straight, steps)
        torch.save({"optimizer": optimizer.state_dict(), "point": straight.point}, tmp_path / "it.ckpt")
        run(optimizer, straight, 5)

        saved = torch.load(tmp_path / "it.ckpt", weights_only=True)
        resumed = AnalyticObjective(saved["point"], residuals=network)
        another = make([resumed.parameter])
        another.load_state_dict(saved["optimizer"])
        run(another, resumed, 5)
        assert torch.equal(resumed.point, straight.point)
        assert another.iteration.number == optimizer.iteration.number
        assert another.iteration.loss == optimizer.iteration.loss

    def test_a_finished_run_takes_no_further_step(self, make):
        objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
        optimizer = make([objective.parameter], max_iterations=3)
        run(optimizer, objective, 3)
        saved = copy.deepcopy(optimizer.state_dict())
        there = objective.point
        another = make([objective.parameter])
        another.load_state_dict(saved)
        assert another.outcome == optimizer.outcome
        assert another.iteration == optimizer.iteration
        run(another, objective, 2)
        assert torch.equal(objective.point, there)


class TestOutcomes:
    def test_an_ascending_direction(self):
        objective = AnalyticObjective([1.0, 2.0], lambda t: t.square().sum())
        optimizer = minimize(lambda p: Solver(p, Given(lambda o: o.point), Armijo()), objective)
        assert optimizer.outcome.name == "stalled"
        assert optimizer.outcome.remedy == "give a direction of descent"

    def test_a_given_direction(self):
        objective = AnalyticObjective([1.0, 2.0], lambda t: t.square().sum())
        optimizer = minimize(lambda p: line_search(p, direction=lambda o: -o.point), objective)
        assert optimizer.outcome.name == "converged"
        assert objective.value() < 1e-18

    @pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
    @pytest.mark.parametrize(
        "make", [newton, bfgs, lbfgs, gauss_newton, levenberg_marquardt], ids=lambda make: make.__name__
    )
    def test_the_units_of_the_target_do_not_matter(self, make, unit):
        x = torch.linspace(-1, 1, 20, dtype=torch.float64)
        target = unit * (2.0 + 3.0 * x + 0.1 * torch.cos(40 * x))
        objective = AnalyticObjective([0.0, 0.0], residuals=lambda t: (t[0] + t[1] * x - target) / 20**0.5)
        optimizer = minimize(make, objective)
        assert optimizer.outcome.name == "converged"
        design = torch.stack([torch.ones_like(x), x], dim=1)
        expected = torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
        torch.testing.assert_close(objective.point, expected, rtol=1e-6, atol=0)

    def test_the_step_tolerance(self):
        objective = AnalyticObjective([10.0], lambda t: (t[0] - 1.0) ** 4)
        optimizer = minimize(lambda p: newton(p, step_tolerance=0.05, gradient_tolerance=0.0), objective)
        assert optimizer.outcome.name == "converged"
        assert "moved" in optimizer.outcome.reason

    def test_the_loss_tolerance(self):
        objective = AnalyticObjective([10.0], lambda t: 1.0 + (t[0] - 1.0) ** 4)
        optimizer = minimize(lambda p: newton(p, loss_tolerance=1e-3, gradient_tolerance=0.0), objective)
        assert optimizer.outcome.name == "converged"
        assert "decreased" in optimizer.outcome.reason
        assert 1e-6 < objective.value() - 1.0 < 1e-2

    def test_what_was_learnt_is_dropped_before_giving_up(self):
        objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
        optimizer = bfgs([objective.parameter])
        run(optimizer, objective, 3)
        memory = optimizer.state[objective.parameter]
        memory["inverse_hessian"] = -memory["inverse_hessian"]  # leads uphill
        run(optimizer, objective, 1)
        assert optimizer.outcome is None
        assert optimizer.iteration.number == 4
        minimize(lambda p: optimizer, objective)
        assert optimizer.outcome.name == "converged"

    def test_another_number_of_parameters_begins_anew(self):
        objective = AnalyticObjective([1.0, 2.0, 3.0], lambda t: (t - 4.0).square().sum() + t.prod())
        optimizer = bfgs([objective.parameter])
        run(optimizer, objective, 2)
        larger = AnalyticObjective([1.0, 2.0, 3.0, 4.0], lambda t: (t - 4.0).square().sum())
        run(optimizer, larger, 2)
        assert optimizer.outcome is None or optimizer.outcome.name == "converged"
        assert larger.value() < 1.0


def test_fixed_steps_follow_a_scheduler():
    objective = AnalyticObjective([1.0], lambda t: t.square().sum())
    optimizer = Solver([objective.parameter], Newton(), Fixed(0.5))
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    run(optimizer, objective, 1)
    assert float(objective.point) == pytest.approx(0.5)
    scheduler.step()
    run(optimizer, objective, 1)
    assert float(objective.point) == pytest.approx(0.375)
    assert optimizer.iteration.step == 0.25


def test_decisions_are_rank_zeros():
    objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
    agreed = []
    objective.broadcast = lambda tensor: agreed.append(tensor) or tensor
    optimizer = Solver([objective.parameter], Steepest(), Armijo())
    run(optimizer, objective, 1)
    # the direction and its slope, in one message
    assert [tensor.numel() for tensor in agreed] == [3]


@pytest.mark.parametrize("name", ["gradient_tolerance", "step_tolerance", "loss_tolerance", "max_iterations"])
def test_ranges(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0 and finite, got -1"):
        Stopping(**{name: -1})
