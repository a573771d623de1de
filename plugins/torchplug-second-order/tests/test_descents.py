import math

import numpy as np
import pytest
import torch
from analytic_objective import AnalyticObjective
from classic_problems import START, network, quadratic, squares
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug_second_order.descents import GaussNewton, Given, Line, Newton, Steepest, first_length
from torchplug_second_order.method import Failure, Point


def path_of(descent, objective, memory=None):
    return descent.path(Point.of(objective), objective, {} if memory is None else memory)


class TestSteepest:
    def test_the_first_step_is_of_length_one_at_most(self):
        objective = AnalyticObjective([3.0, 4.0], lambda t: 50.0 * t.square().sum())
        line = path_of(Steepest(), objective)
        torch.testing.assert_close(line.direction, -objective.gradient())
        assert line.initial_step_size * float(line.direction.norm()) == pytest.approx(1.0)

    def test_a_gradient_whose_square_underflows(self):
        objective = AnalyticObjective([1.0, 1.0], lambda t: 1e-170 * t.sum())
        assert first_length(objective.gradient()) == 1.0

    def test_then_the_curvature_of_the_last_step(self):
        memory = {}
        descent = Steepest()
        s, y = torch.tensor([1.0, 2.0]).double(), torch.tensor([3.0, 10.0]).double()
        descent.update(s, y, memory)
        line = path_of(descent, AnalyticObjective([1.0, 1.0], lambda t: t.square().sum()), memory)
        assert line.initial_step_size == pytest.approx(5.0 / 23.0)
        descent.update(s, -y, memory)
        assert memory["length"] is None
        assert not descent.reset(memory)


def test_given():
    objective = AnalyticObjective([1.0, 2.0], lambda t: t.square().sum())
    line = path_of(Given(lambda o: -0.5 * o.point), objective)
    assert line == Line(line.direction, -5.0)
    torch.testing.assert_close(line.direction, torch.tensor([-0.5, -1.0]).double())
    uphill = path_of(Given(lambda o: o.point), objective)
    assert isinstance(uphill, Failure)
    assert "does not decrease along the direction" in uphill.reason


@st.composite
def nonconvex(draw):
    """A smooth function of three variables, of any curvature, and a start."""
    numbers = st.floats(-3, 3)
    a = torch.tensor(draw(st.lists(numbers, min_size=9, max_size=9)), dtype=torch.float64).reshape(3, 3)
    start = draw(st.lists(numbers, min_size=3, max_size=3))
    return AnalyticObjective(start, lambda t: t @ a @ t + torch.sin(a @ t).sum() + 0.1 * t.square().square().sum())


class TestNewton:
    @settings(deadline=None)
    @given(objective=nonconvex(), solver=st.sampled_from(["cholesky", "cg"]))
    def test_never_uphill(self, objective, solver):
        line = path_of(Newton(solver), objective)
        if float(objective.gradient().norm()) > 1e-8:
            assert line.slope < 0
            assert float(line.direction @ objective.gradient()) < 0

    def test_the_exact_direction_where_convex(self):
        objective = AnalyticObjective(START[quadratic], residuals=quadratic)
        line = path_of(Newton("cholesky"), objective)
        expected = torch.linalg.solve(objective.hessian(), -objective.gradient())
        torch.testing.assert_close(line.direction, expected, rtol=1e-8, atol=0)
        assert line.initial_step_size == 1.0

    def test_leaves_a_saddle(self):
        objective = AnalyticObjective([1.0, 1e-3], lambda t: t[0] ** 2 - t[1] ** 2 + t[1] ** 4)
        for solver in ("cholesky", "cg"):
            assert path_of(Newton(solver), objective).slope < 0

    def test_cg_where_the_gradient_itself_has_no_curvature(self):
        objective = AnalyticObjective([0.5], lambda t: -t.square().sum())
        line = path_of(Newton("cg"), objective)
        # as far as with the curvature's sign reversed
        torch.testing.assert_close(line.direction, torch.tensor([0.5]).double())

    def test_auto_goes_by_size(self):
        few, many = (
            AnalyticObjective(torch.ones(50), squares(lambda t: t)),
            AnalyticObjective(torch.ones(30_000), squares(lambda t: t)),
        )
        many.hessian = None  # must not be asked for
        assert isinstance(path_of(Newton("auto"), few), Line)
        assert isinstance(path_of(Newton("auto"), many), Line)
        assert isinstance(path_of(Newton("auto", memory_limit=1e-9), many), Line)

    def test_a_hessian_that_is_not_finite(self):
        objective = AnalyticObjective([1.0], lambda t: t.square().sum())
        objective.hessian = lambda: torch.full((1, 1), math.nan, dtype=torch.float64)
        failure = path_of(Newton("cholesky"), objective)
        assert isinstance(failure, Failure)
        assert "no finite solution" in failure.reason

    def test_refusals(self):
        descent = Newton("cholesky", memory_limit=1.0)
        with pytest.raises(ValueError, match=r"the Hessian of 20,000 parameters would need 8\.94 GiB.*cg.*lbfgs"):
            descent.refuse_size(20_000)
        descent.refuse_size(1000)
        Newton("auto").refuse_size(10**9)
        objective = AnalyticObjective(torch.ones(1000), squares(lambda t: t))
        objective.samples = 10**9
        with pytest.raises(ValueError, match=r"would take about \d+ minutes an iteration: use linear_solver cg"):
            descent.refuse(objective)


class TestGaussNewton:
    @pytest.mark.parametrize("solver", ["qr", "cholesky"])
    def test_against_numpy(self, solver):
        objective = AnalyticObjective(START[network], residuals=network)
        line = path_of(GaussNewton(solver), objective)
        jacobian, residuals = objective.jacobian()
        expected = np.linalg.lstsq(jacobian.numpy(), -residuals.numpy(), rcond=None)[0]
        np.testing.assert_allclose(line.direction, expected, rtol=1e-8)
        assert line.predicted_reduction == pytest.approx(-0.5 * float(line.direction @ objective.gradient()))

    def deficient(self, size=3):
        matrix = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 1.0], [2.0, 0.0, 2.0], [1.0, 1.0, 2.0]]).double()[:, :size]
        return AnalyticObjective(
            torch.zeros(size), residuals=lambda t: matrix @ t - torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
        )

    def test_a_deficient_rank(self):
        objective = self.deficient()
        line = path_of(GaussNewton("qr"), objective)
        jacobian, residuals = objective.jacobian()
        best = float(residuals @ residuals) - float(
            (residuals - jacobian @ (torch.linalg.pinv(jacobian) @ residuals)).square().sum()
        )
        assert line.predicted_reduction == pytest.approx(best)
        failure = path_of(GaussNewton("cholesky"), objective)
        assert isinstance(failure, Failure)
        assert "JᵀJ is singular" in failure.remedy
        assert "levenberg_marquardt" in failure.remedy

    @pytest.mark.parametrize("solver", ["qr", "cholesky"])
    def test_fewer_rows_than_parameters(self, solver):
        generator = torch.Generator().manual_seed(0)
        matrix = torch.randn(4, 9, generator=generator, dtype=torch.float64)
        objective = AnalyticObjective(torch.zeros(9), residuals=lambda t: matrix @ t - 1.0)
        descent = GaussNewton(solver)
        descent.evaluate(objective)
        expected = torch.linalg.pinv(matrix) @ torch.ones(4, dtype=torch.float64)
        torch.testing.assert_close(path_of(descent, objective).direction, expected, rtol=1e-7, atol=0)

    def test_refusals(self):
        objective = AnalyticObjective(torch.ones(3), residuals=lambda t: t)
        objective.size, objective.samples = 20_000, 10_000
        with pytest.raises(ValueError, match=r"JᵀJ of 20,000 parameters would need 11\.9 GiB.*newton.*cg.*lbfgs"):
            GaussNewton().refuse(objective)
        objective.samples = 100
        GaussNewton().refuse(objective)
        objective.size, objective.samples = 2000, 10**9
        with pytest.raises(ValueError, match=r"minutes an iteration: use newton with linear_solver cg, or lbfgs"):
            GaussNewton().refuse(objective)


@pytest.mark.parametrize("make", [lambda: Newton("qr"), lambda: GaussNewton("cg"), lambda: Newton(memory_limit=0.0)])
def test_ranges(make):
    with pytest.raises(ValueError, match="must be"):
        make()
