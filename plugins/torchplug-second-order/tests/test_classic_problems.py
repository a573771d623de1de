"""Every optimizer on classic problems, against scipy's answers and NIST's certified values."""

import functools

import numpy as np
import pytest
import scipy.optimize
import torch
from analytic_objective import AnalyticObjective, minimize
from classic_problems import START, beale, network, quadratic, rosenbrock, squares
from curve_problems import Curve, Table
from nist_data import NONLINEAR, digits, nonlinear_problem
from torch import nn

from torchplug import Objective
from torchplug.components.builtin.losses import MSE
from torchplug_second_order import optimizers
from torchplug_second_order.optimizers import (
    bfgs,
    gauss_newton,
    lbfgs,
    levenberg,
    levenberg_marquardt,
    line_search,
    newton,
)
from torchplug_second_order.stopping import ROUNDING


def variants():
    yield "line_search", lambda p: line_search(p)
    yield "line_search wolfe", lambda p: line_search(p, search="strong_wolfe")
    yield "newton", lambda p: newton(p)
    yield "newton wolfe", lambda p: newton(p, search="strong_wolfe")
    yield "newton cg", lambda p: newton(p, linear_solver="cg")
    yield "bfgs", lambda p: bfgs(p)
    yield "bfgs armijo", lambda p: bfgs(p, search="armijo")
    yield "lbfgs", lambda p: lbfgs(p)
    yield "lbfgs armijo", lambda p: lbfgs(p, search="armijo")
    yield "gauss_newton", lambda p: gauss_newton(p)
    yield "gauss_newton cholesky", lambda p: gauss_newton(p, linear_solver="cholesky")
    yield "gauss_newton wolfe", lambda p: gauss_newton(p, search="strong_wolfe")
    yield "levenberg", lambda p: levenberg(p)
    yield "levenberg_marquardt", lambda p: levenberg_marquardt(p)


VARIANTS = dict(variants())
CURVATURE = [name for name in VARIANTS if not name.startswith("line_search")]


@functools.cache
def scipy_minimum(problem):
    """Scipy's answer from the same start, with derivatives by autograd, polished to the last digits."""
    function = squares(problem)
    gradient = torch.func.grad(function)
    return scipy.optimize.minimize(
        lambda x: float(function(torch.from_numpy(x))),
        START[problem].numpy(),
        jac=lambda x: gradient(torch.from_numpy(x)).numpy(),
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 5000},
    )


@pytest.mark.parametrize("name", CURVATURE)
def test_rosenbrock(name):
    objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
    optimizer = minimize(VARIANTS[name], objective)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    np.testing.assert_allclose(objective.point, [1.0, 1.0], rtol=1e-8)
    np.testing.assert_allclose(objective.point, scipy_minimum(rosenbrock).x, rtol=1e-6)


# at the start one column of J is zero, which `cholesky` cannot solve
@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "gauss_newton cholesky"])
def test_beale(name):
    objective = AnalyticObjective(START[beale], residuals=beale)
    optimizer = minimize(VARIANTS[name], objective, steps=3000)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    np.testing.assert_allclose(objective.point, [3.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(objective.point, scipy_minimum(beale).x, rtol=1e-6)


def test_a_singular_system_ends_where_it_began():
    objective = AnalyticObjective(START[beale], residuals=beale)
    optimizer = minimize(VARIANTS["gauss_newton cholesky"], objective)
    assert optimizer.outcome.name == "stalled"
    assert "singular" in optimizer.outcome.remedy
    assert torch.equal(objective.point, START[beale])


@pytest.mark.parametrize("name", ["line_search", "line_search wolfe"])
def test_gradient_descent_creeps_along_rosenbrocks_valley(name):
    objective = AnalyticObjective(START[rosenbrock], residuals=rosenbrock)
    minimize(VARIANTS[name], objective, steps=500)
    assert objective.value() < 0.1


@pytest.mark.parametrize("name", CURVATURE)
def test_an_ill_conditioned_quadratic(name):
    objective = AnalyticObjective(START[quadratic], residuals=quadratic)
    optimizer = minimize(VARIANTS[name], objective, steps=2000)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert objective.value() == pytest.approx(scipy_minimum(quadratic).fun, rel=1e-10)
    assert objective.value() == pytest.approx(1.0, rel=1e-10)


@pytest.mark.parametrize("name", ["line_search", "line_search wolfe"])
def test_gradient_descent_on_a_quadratic(name):
    objective = AnalyticObjective(START[quadratic], residuals=quadratic)
    minimize(VARIANTS[name], objective, steps=1000)
    assert objective.value() == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize("name", CURVATURE)
def test_a_small_network(name):
    objective = AnalyticObjective(START[network], residuals=network)
    optimizer = minimize(VARIANTS[name], objective, steps=2000)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert float(objective.gradient().abs().max()) < 1e-6
    # a minimum, and scipy finds nothing lower beside it
    assert float(torch.linalg.eigvalsh(objective.hessian())[0]) > 0
    polished = scipy.optimize.least_squares(
        lambda x: network(torch.from_numpy(x)).numpy(), objective.point.numpy(), method="lm", xtol=1e-15, ftol=1e-15
    )
    assert objective.value() == pytest.approx(2 * polished.cost, rel=1e-10)


@pytest.mark.parametrize("name", [name for name in VARIANTS if not name.startswith(("gauss", "lev"))])
def test_a_convex_likelihood(name):
    """Logistic regression with an L2 penalty, to ten digits of F and six of the coefficients."""
    generator = torch.Generator().manual_seed(1)
    X = torch.randn(200, 5, generator=generator, dtype=torch.float64)
    y = (X[:, 0] - 0.5 * X[:, 1] + torch.randn(200, generator=generator, dtype=torch.float64) > 0).double()

    def likelihood(theta):
        return nn.functional.binary_cross_entropy_with_logits(X @ theta, y) + 1e-3 * theta.square().sum()

    objective = AnalyticObjective(torch.zeros(5), likelihood)
    optimizer = minimize(VARIANTS[name], objective)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    gradient = torch.func.grad(likelihood)
    reference = scipy.optimize.minimize(
        lambda x: float(likelihood(torch.from_numpy(x))),
        np.zeros(5),
        jac=lambda x: gradient(torch.from_numpy(x)).numpy(),
        method="BFGS",
        options={"gtol": 1e-10},
    )
    assert objective.value() == pytest.approx(reference.fun, rel=1e-10)
    np.testing.assert_allclose(objective.point, reference.x, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", VARIANTS)
def test_no_step_raises_the_loss_by_more_than_rounding(name):
    objective = AnalyticObjective(START[network], residuals=network)
    minimize(VARIANTS[name], objective, steps=50)
    assert all(b <= a * (1 + ROUNDING) for a, b in zip(objective.values, objective.values[1:], strict=False))


@pytest.mark.nist
@pytest.mark.parametrize("name", NONLINEAR)
@pytest.mark.parametrize("method", ["gauss_newton", "levenberg", "levenberg_marquardt"])
def test_nist_from_the_second_start(method, name):
    x, y, start, certified, _ = nonlinear_problem(name)
    curve = Curve(NONLINEAR[name], start)
    objective = Objective(curve, MSE(), [], Table(x, y))
    optimizer = getattr(optimizers, method)(curve.parameters())
    for _ in range(500):
        optimizer.step(objective=objective)
        if optimizer.outcome is not None:
            break
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert digits(curve.b.detach().numpy(), certified) >= 6
