import pytest
import torch
from analytic_objective import AnalyticObjective
from classic_problems import START, network
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug_second_order.damped import DampedGaussNewton, DualSystem, PrimalSystem, has_fewer_rows
from torchplug_second_order.method import Point


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None)
@given(rows=st.integers(1, 6), size=st.integers(1, 9), seed=st.integers(0, 20), damping=st.floats(-4, 4))
def test_both_systems_give_the_direct_solution(rows, size, seed, damping):
    jacobian, residuals = random(rows, size, seed=seed), random(rows, seed=seed + 1)
    penalty = random(size, seed=seed + 2).square() * (torch.arange(size) % 2)
    gradient = penalty * random(size, seed=seed + 3)
    total = 10.0**damping * (1.0 + random(size, seed=seed + 4).square())
    squares = jacobian.mT @ jacobian + torch.diag(penalty)
    product = jacobian.mT @ residuals + gradient
    expected = -torch.linalg.solve(squares + torch.diag(total), product)
    tolerance = {"rtol": 1e-8, "atol": 1e-10 * float(expected.abs().max())}
    dual = DualSystem(jacobian, residuals, penalty, gradient)
    torch.testing.assert_close(PrimalSystem(squares, product).solve(total), expected, **tolerance)
    torch.testing.assert_close(dual.solve(total), expected, **tolerance)
    torch.testing.assert_close(dual.diagonal, squares.diagonal())
    torch.testing.assert_close(dual.half_gradient, product)


def test_what_is_not_positive_definite_has_no_solution():
    system = PrimalSystem(-torch.eye(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    assert system.solve(torch.zeros(2, dtype=torch.float64)).isnan().all()


@pytest.mark.parametrize("scaling", ["identity", "diagonal"])
def test_the_path(scaling):
    objective = AnalyticObjective(START[network], residuals=network)
    path = DampedGaussNewton(scaling).path(Point.of(objective), objective, {})
    jacobian, residuals = objective.jacobian()
    squares = jacobian.mT @ jacobian
    scale = torch.diag(squares.diagonal()) if scaling == "diagonal" else torch.eye(13, dtype=torch.float64)
    step = path.at(0.3)
    torch.testing.assert_close(step, -torch.linalg.solve(squares + 0.3 * scale, jacobian.mT @ residuals))
    linear = float((residuals + jacobian @ step).square().sum())
    assert path.predicted(step, 0.3) == pytest.approx(objective.value() - linear, rel=1e-10)
    assert path.unit == (1.0 if scaling == "diagonal" else float(squares.diagonal().max()))


def test_the_scale_never_shrinks():
    objective = AnalyticObjective([3.0, 1.0], residuals=lambda t: torch.stack([t[0] ** 2, t[1]]))
    descent, memory = DampedGaussNewton("diagonal"), {}
    descent.path(Point.of(objective), objective, memory)
    objective.move(torch.tensor([1.0, 1.0]).double())
    path = descent.path(Point.of(objective), objective, memory)
    torch.testing.assert_close(path.scale, torch.tensor([36.0, 1.0]).double())
    assert not descent.reset(memory)
    torch.testing.assert_close(
        descent.path(Point.of(objective), objective, memory).scale, torch.tensor([4.0, 1.0]).double()
    )


def test_a_parameter_without_effect_stays():
    objective = AnalyticObjective([3.0, 1.0], residuals=lambda t: torch.stack([t[0] ** 2 - 1.0, t[0] - 2.0]))
    path = DampedGaussNewton("diagonal").path(Point.of(objective), objective, {})
    step = path.at(1e-3)
    assert float(step[1]) == 0.0
    assert torch.isfinite(step).all()


def test_the_smaller_system_is_chosen():
    objective = AnalyticObjective(torch.ones(4), residuals=lambda t: t[:2])
    assert has_fewer_rows(objective)
    assert isinstance(DampedGaussNewton("diagonal").path(Point.of(objective), objective, {}).system, DualSystem)
    objective.penalty_diagonal = lambda: None
    assert not has_fewer_rows(objective)
    assert isinstance(DampedGaussNewton("diagonal").path(Point.of(objective), objective, {}).system, PrimalSystem)
