import math

import pytest
import torch
from analytic_objective import AnalyticObjective
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from torchplug_second_order.damped import DampedGaussNewton
from torchplug_second_order.descents import Line
from torchplug_second_order.method import Failure, Point
from torchplug_second_order.searches import Armijo, Fixed, GainRatio, StrongWolfe

ROUNDING = 1e-14

FUNCTIONS = {
    "parabola": lambda t: (t[0] - 3.0) ** 2,
    "quartic": lambda t: (t[0] - 2.0) ** 4 + t[0],
    "steep": lambda t: torch.exp(t[0]) - 5.0 * t[0],
    "wavy": lambda t: 0.1 * t[0] ** 2 + torch.sin(3.0 * t[0]),
    "valley": lambda t: torch.sqrt(1.0 + t[0] ** 2),
    "barrier": lambda t: -torch.log(t[0] + 20.0) - torch.log(20.0 - t[0]),
}


def along(function, start, first, size=1.0):
    """The objective, the point and the line downhill."""
    objective = AnalyticObjective([start], function)
    here = Point.of(objective)
    direction = -size * here.gradient.sign()
    return objective, here, Line(direction, float(direction @ here.gradient), first)


STARTS = st.floats(-10.0, 10.0)
FIRSTS = st.floats(-6.0, 6.0).map(lambda e: 10.0**e)


@settings(deadline=None)
@given(name=st.sampled_from(sorted(FUNCTIONS)), start=STARTS, first=FIRSTS)
def test_armijo_decreases_enough(name, start, first):
    objective, here, line = along(FUNCTIONS[name], start, first)
    assume(abs(line.slope) > 1e-3)
    step = Armijo(1e-4).run(here, line, objective, {}, {})
    assert torch.equal(objective.point, here.position + step.displacement)
    assert objective.value() <= here.value + 1e-4 * step.length * line.slope + ROUNDING * abs(here.value)
    assert step.length <= first


@settings(deadline=None)
@given(name=st.sampled_from(sorted(FUNCTIONS)), start=STARTS, first=FIRSTS, curvature=st.sampled_from([0.1, 0.5, 0.9]))
def test_strong_wolfe_conditions(name, start, first, curvature):
    objective, here, line = along(FUNCTIONS[name], start, first)
    assume(abs(line.slope) > 1e-3)
    step = StrongWolfe(1e-4, curvature).run(here, line, objective, {}, {})
    assert torch.equal(objective.point, here.position + step.displacement)
    value, gradient = objective.evaluate()
    assert value <= here.value + 1e-4 * step.length * line.slope + ROUNDING * abs(here.value)
    assert abs(float(gradient @ line.direction)) <= curvature * abs(line.slope)


def test_armijo_takes_the_first_if_it_will_do():
    objective, here, line = along(FUNCTIONS["parabola"], 0.0, 1.0)
    step = Armijo().run(here, line, objective, {}, {})
    assert step.length == 1.0
    assert step.full_step
    assert objective.evaluations == 2


def test_armijo_interpolates():
    objective, here, line = along(FUNCTIONS["parabola"], 0.0, 12.0)
    step = Armijo().run(here, line, objective, {}, {})
    # the parabola's minimum is at a quarter of the first
    assert step.length == pytest.approx(3.0)
    assert not step.full_step


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe()])
def test_a_function_that_is_not_finite_everywhere(search):
    objective, here, line = along(lambda t: torch.where(t[0] < 5.0, (t[0] - 4.0) ** 2, torch.nan), 0.0, 1e5)
    step = search.run(here, line, objective, {}, {})
    assert objective.value() < here.value
    assert step.length < 5.0


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe()])
def test_a_wrong_derivative_is_a_failure(search):
    objective, here, line = along(lambda t: t[0] ** 2, 1.0, 1.0)
    failure = search.run(here, Line(-line.direction, line.slope), objective, {}, {})
    assert isinstance(failure, Failure)
    assert "decreased the loss" in failure.reason
    assert objective.evaluations < 60


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe()])
def test_nothing_promised_is_no_step(search):
    objective, here, _ = along(lambda t: 1.0 + t[0] ** 2, 1e-9, 1.0)
    failure = search.run(here, Line(-here.gradient, -float(here.gradient @ here.gradient)), objective, {}, {})
    assert isinstance(failure, Failure)
    # one trial, which leaves the gradient as large as it was
    assert objective.evaluations == 2


@pytest.mark.parametrize("search", [Armijo(), StrongWolfe()])
def test_the_gradient_decides_where_rounding_hides_the_decrease(search):
    objective, here, _ = along(lambda t: 1.0 + (t[0] - 3.0) ** 2, 3.0 + 1e-9, 1.0)
    step = search.run(here, Line(-0.5 * here.gradient, -0.5 * float(here.gradient @ here.gradient)), objective, {}, {})
    assert step.length == 1.0
    assert objective.point.item() == pytest.approx(3.0, rel=1e-15)


def test_armijo_refuses_a_rise_beyond_rounding_even_with_a_smaller_gradient():
    objective, here, line = along(lambda t: 1.0 + torch.where(t[0] > 0.0, t[0] ** 2, 1e-9), 1e-9, 1.0, size=2e-9)
    assert isinstance(Armijo().run(here, line, objective, {}, {}), Failure)


def test_strong_wolfe_of_a_line_without_end():
    objective, here, line = along(lambda t: -t[0], 0.0, 1.0)
    step = StrongWolfe().run(here, line, objective, {}, {})
    assert step.length > 1e6
    assert objective.value() < -1e6


def test_strong_wolfe_keeps_the_best_where_there_is_no_solution():
    # a corner: the slope jumps over the band that would be allowed
    objective, here, line = along(lambda t: torch.abs(t[0] - 1.0), 0.0, 0.8)
    step = StrongWolfe(curvature=0.1).run(here, line, objective, {}, {})
    assert objective.value() < 1e-9
    assert torch.equal(objective.point, here.position + step.displacement)


def test_fixed_takes_the_current_setting():
    objective, here, line = along(FUNCTIONS["parabola"], 0.0, 1.0)
    search = Fixed(0.5)
    assert search.defaults == {"lr": 0.5}
    step = search.run(here, line, objective, {}, {"lr": 0.25})
    assert step.length == 0.25
    assert float(objective.point) == 0.25


def test_fixed_refuses_what_is_not_finite():
    objective, here, line = along(lambda t: torch.log(t[0]) ** 2, 0.5, 1.0)
    failure = Fixed(1.0).run(here, Line(-line.direction, line.slope), objective, {}, {"lr": 1.0})
    assert isinstance(failure, Failure)
    assert "lr" in failure.remedy


class TestGainRatio:
    def residuals(self, theta):
        return torch.stack([torch.exp(theta[0]) - 2.0, theta[0] * theta[1] - 1.0, 0.1 * theta[1]])

    def run(self, start, damping=1e-3, memory=None):
        objective = AnalyticObjective(start, residuals=self.residuals)
        here = Point.of(objective)
        memory = {} if memory is None else memory
        path = DampedGaussNewton("diagonal").path(here, objective, memory)
        return GainRatio(damping).run(here, path, objective, memory, {}), objective, here, memory

    @settings(deadline=None)
    @given(start=st.tuples(st.floats(-5, 5), st.floats(-5, 5)), damping=st.floats(-12, 3).map(lambda e: 10.0**e))
    def test_never_raises_the_loss(self, start, damping):
        step, objective, here, memory = self.run(start, damping)
        if not isinstance(step, Failure):
            assert objective.value() < here.value
            assert torch.equal(objective.point, here.position + step.displacement)
            assert memory["damping"] > 0
            assert step.damping >= damping

    def test_nielsens_rule(self):
        step, objective, here, memory = self.run([0.5, 1.0])
        jacobian, residuals = objective.jacobian()
        objective.move(here.position)
        jacobian, residuals = objective.jacobian()
        linear = float((residuals + jacobian @ step.displacement).square().sum())
        objective.move(here.position + step.displacement)
        ratio = (here.value - objective.value()) / (here.value - linear)
        assert memory["damping"] == pytest.approx(step.damping * max(1 / 3, 1 - (2 * ratio - 1) ** 3), rel=1e-9)

    def test_rejections_raise_the_damping(self):
        def steep(theta):
            return torch.stack([torch.atan(theta[0] - 50.0) * 40.0])

        objective = AnalyticObjective([0.0], residuals=steep)
        here, memory = Point.of(objective), {}
        path = DampedGaussNewton("identity").path(here, objective, memory)
        step = GainRatio(1e-9).run(here, path, objective, memory, {})
        assert objective.value() < here.value
        assert step.damping > 1e-9 * path.unit
        assert not step.full_step

    def test_no_damping_that_helps_is_a_failure(self):
        objective = AnalyticObjective([1.0, 1.0], residuals=self.residuals)
        here, memory = Point.of(objective), {}
        path = DampedGaussNewton("diagonal").path(here, objective, memory)
        objective.function = lambda theta: torch.tensor(math.nan, dtype=torch.float64)
        failure = GainRatio().run(here, path, objective, memory, {})
        assert isinstance(failure, Failure)
        assert "damping" in failure.reason


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fixed(0.0), "lr must be positive and finite, got 0.0"),
        (lambda: Armijo(1.0), "decrease must be between 0 and 1, got 1.0"),
        (lambda: StrongWolfe(0.2, 0.1), "decrease must be between 0 and 0.1, got 0.2"),
        (lambda: StrongWolfe(curvature=1.0), "curvature must be between 0 and 1, got 1.0"),
        (lambda: GainRatio(-1.0), "damping must be positive and finite, got -1.0"),
    ],
)
def test_ranges(make, message):
    with pytest.raises(ValueError, match=message):
        make()
