"""The optimizer against scikit-learn, statsmodels and NumPy, through the training objective."""

import io
import math
import re
import warnings

import numpy as np
import pytest
import torch
from nist_data import digits, linear_problem
from sklearn.linear_model import LinearRegression, Ridge
from torch import nn

from torchplug.batch import Rows
from torchplug.components.builtin.losses import MSE
from torchplug.components.builtin.regularizers import L2
from torchplug.components.contracts import Regularizer
from torchplug.objective import Objective
from torchplug_second_order.closed_form import ClosedForm

METHODS = ["qr", "gram"]
DOUBLE = torch.float64


class InMemory:
    def __init__(self, X, Y, w=None, names=None):
        self.feature_names = names
        w = np.ones(len(X)) if w is None else w
        self.tensors = [torch.from_numpy(np.array(part, dtype=np.float64)) for part in (X, Y, w)]
        self.samples = len(X)

    def read(self, start, stop):
        return Rows(*(tensor[start:stop] for tensor in self.tensors))


class Smooth(Regularizer):
    """Σ (θᵢ₊₁ − θᵢ)²: quadratic, and not elementwise."""

    coefficient = 0.3

    def forward(self, parameters):
        return sum(p.reshape(-1).diff().square().sum() for p in parameters.values())

    def residuals(self, parameters):
        return {name: self.coefficient**0.5 * p.reshape(-1).diff() for name, p in parameters.items()}


class Towards(Regularizer):
    """Σ (θ − 1)²: elementwise, least away from zero."""

    coefficient = 0.3

    def forward(self, parameters):
        return sum((p - 1.0).square().sum() for p in parameters.values())

    def curvature(self, parameters):
        return {name: torch.full_like(p, 2.0) for name, p in parameters.items()}

    def residuals(self, parameters):
        return {name: self.coefficient**0.5 * (p - 1.0) for name, p in parameters.items()}


class Polynomial(nn.Module):
    """Linear in its parameters, and no linear map: a + b x + c x²."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(0.3, dtype=DOUBLE))
        self.bc = nn.Parameter(torch.tensor([-0.5, 2.0], dtype=DOUBLE))

    def forward(self, x):
        return self.a + self.bc[0] * x + self.bc[1] * x**2


def normal(n, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def network(d, k=1, bias=True):
    torch.manual_seed(0)
    return nn.Linear(d, k, bias=bias, dtype=DOUBLE)


def fit(model, X, Y, w=None, penalties=(), loss=None, names=None, **settings):
    """One step; returns the optimizer and the objective."""
    Y = Y.reshape(len(X), -1)
    objective = Objective(model, MSE() if loss is None else loss, penalties, InMemory(X, Y, w, names))
    optimizer = ClosedForm([(name, p) for name, p in model.named_parameters() if p.requires_grad], **settings)
    optimizer.step(objective=objective)
    return optimizer, objective


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("per_output", ["sum", "mean"])
def test_a_linear_model_as_scikit_learn(method, bias, per_output):
    X, Y, w = normal(200, 5) + 1.0, normal(200, 2, seed=1), np.random.default_rng(2).uniform(0.2, 2.0, 200)
    model = network(5, 2, bias)
    optimizer, objective = fit(model, X, Y, w, loss=MSE(per_output), method=method)
    peer = LinearRegression(fit_intercept=bias).fit(X, Y, w)
    np.testing.assert_allclose(model.weight.detach(), peer.coef_, rtol=1e-9)
    if bias:
        np.testing.assert_allclose(model.bias.detach(), peer.intercept_, rtol=1e-9)
    assert optimizer.outcome.name == "converged"
    assert optimizer.iteration.number == 1
    assert optimizer.iteration.loss == pytest.approx(objective.value(), rel=1e-12)
    assert optimizer.iteration.gradient_norm < 1e-12
    assert optimizer.iteration.step is None
    assert optimizer.iteration.damping is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("per_output", ["sum", "mean"])
def test_l2_as_scikit_learns_ridge(method, per_output):
    X, Y = normal(100, 4) + 1.0, normal(100, 2, seed=1)
    model = network(4, 2)
    optimizer, _ = fit(model, X, Y, penalties=[L2(0.05)], loss=MSE(per_output), method=method)
    peer = Ridge(alpha=0.05 * 100 * (2 if per_output == "mean" else 1)).fit(X, Y)
    np.testing.assert_allclose(model.weight.detach(), peer.coef_, rtol=1e-9)
    np.testing.assert_allclose(model.bias.detach(), peer.intercept_, rtol=1e-9)
    assert optimizer.statistics is None


@pytest.mark.parametrize("penalties", [[Towards()], [L2(0.1), Towards()], [L2(0.1, include=["bias"])], [Smooth()]])
def test_other_quadratic_penalties_leave_no_gradient(penalties):
    model = network(3, 2)
    X, Y = normal(50, 3), normal(50, 2, seed=1)
    optimizer, objective = fit(model, X, Y, penalties=penalties)
    assert optimizer.outcome.name == "converged"
    assert optimizer.iteration.gradient_norm < 1e-13
    assert objective.hessian().det() > 0.0


@pytest.mark.nist("Filip")
def test_filip_from_raw_data():
    problem = linear_problem("Filip")
    model = network(10)
    optimizer, _ = fit(model, problem.X, problem.y)
    found = np.r_[model.bias.detach().numpy(), model.weight.detach().numpy()[0]]
    assert digits(found, problem.certified[:, 0]) >= 7
    assert digits(optimizer.statistics.standard_error[:, 0].numpy(), problem.certified[:, 1]) >= 6
    assert digits(optimizer.statistics.r_squared.numpy(), problem.r_squared) >= 6


def test_statistics_need_more_rows_than_coefficients():
    X, y = normal(4, 3), normal(4, seed=1)
    assert fit(network(3), X, y)[0].statistics is None
    assert fit(network(3, bias=False), X, y)[0].statistics.degrees_of_freedom == 1


@pytest.mark.parametrize("method", METHODS)
def test_dependent_columns_are_named_in_a_warning(method):
    X, y = normal(60, 5), normal(60, seed=1)
    X[:, 1] = 2.0
    X[:, 4] = X[:, 3]
    model = network(5)
    with pytest.warns(UserWarning, match=r"closed_form: two, (age|years) can be had linearly .* least slopes"):
        optimizer, _ = fit(model, X, y, names=("a", "two", "b", "age", "years"), method=method)
    slopes = np.linalg.pinv(X - X.mean(0), rcond=1e-10) @ (y - y.mean())
    np.testing.assert_allclose(model.weight.detach()[0], slopes, rtol=1e-9, atol=1e-12)
    assert model.bias.item() == pytest.approx(y.mean() - X.mean(0) @ slopes, rel=1e-9)
    assert optimizer.outcome.name == "converged"
    assert optimizer.statistics is None


def test_of_many_dependent_columns_a_few_are_named():
    with pytest.warns(UserWarning, match=r"(feature \d+, ){7}feature \d+ and 9 more can"):
        fit(network(20), normal(4, 20), normal(4, seed=1))


def test_products_warn_where_they_leave_few_digits():
    X, y = normal(100, 3), normal(100, seed=1)
    X[:, 2] = X[:, 1] + 3e-6 * X[:, 2]
    fit(network(3), X, y)
    with pytest.warns(UserWarning, match=r"method: gram only about [45] digits .* use method: qr"):
        fit(network(3), X, y, method="gram")


@pytest.mark.parametrize("penalties", [[], [L2(0.1)]])
def test_a_network_that_is_linear_in_its_parameters(penalties):
    x = normal(40, 1)
    y = normal(40, seed=1)
    model = Polynomial()
    optimizer, objective = fit(model, x, y, penalties=penalties)
    A = np.hstack([np.ones_like(x), x, x**2])
    ridge = 40 * objective.penalty_diagonal()[0].numpy()
    expected = np.linalg.solve(A.T @ A + np.diag(ridge), A.T @ y)
    np.testing.assert_allclose(objective.point, expected, rtol=1e-10)
    assert optimizer.outcome.name == "converged"
    assert optimizer.statistics is None


def test_dependent_parameters_change_least_and_are_named():
    x = np.array([[1.0], [1.0], [2.0], [2.0]])
    y = np.array([0.0, 1.0, 2.0, 3.0])
    model = Polynomial()
    start = torch.cat([p.detach().reshape(-1) for p in model.parameters()]).numpy()
    with pytest.warns(UserWarning, match=r"closed_form: (a|bc)\[\d\] can be had linearly .* least change"):
        _, objective = fit(model, x, y)
    A = np.hstack([np.ones_like(x), x, x**2])
    np.testing.assert_allclose(objective.point, start + np.linalg.pinv(A) @ (y - A @ start), rtol=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_data_that_are_not_finite_stall(method):
    X, y = normal(20, 2), normal(20, seed=1)
    X[3, 1] = np.nan
    model = network(2)
    before = model.weight.detach().clone()
    optimizer, _ = fit(model, X, y, method=method)
    assert optimizer.outcome.name == "stalled"
    assert optimizer.outcome.remedy
    assert torch.equal(model.weight.detach(), before)
    assert optimizer.iteration is None


def test_a_finished_optimizer_takes_no_further_step_after_a_checkpoint():
    X, y = normal(50, 3), normal(50, seed=1)
    model = network(3)
    optimizer, objective = fit(model, X, y)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = ClosedForm(model.parameters())
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.outcome == optimizer.outcome
    assert resumed.iteration == optimizer.iteration
    assert torch.equal(resumed.statistics.standard_error, optimizer.statistics.standard_error)
    with torch.no_grad():
        model.bias.add_(1.0)
    resumed.step(objective=objective)
    assert objective.value() > optimizer.iteration.loss + 0.5


def test_training_that_begins_at_the_solution_stays_there():
    X = normal(50, 3)
    y = X @ [1.0, 2.0, 3.0] + 4.0
    model = network(3)
    fit(model, X, y)
    again, _ = fit(model, X, y)
    assert again.outcome.name == "converged"
    np.testing.assert_allclose(model.weight.detach()[0], [1.0, 2.0, 3.0], rtol=1e-12)


def test_a_warning_made_an_error_comes_after_the_step():
    X, y = np.ones((5, 1)), np.arange(5.0)
    model = network(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match=re.escape("feature 0")):
            fit(model, X, y)
    assert model.bias.item() == pytest.approx(2.0)
    assert math.isclose(model.weight.item(), 0.0, abs_tol=1e-12)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method must be qr or gram, got 'svd'"):
        ClosedForm(network(1).parameters(), "svd")
