"""Standard errors, t, p and R²: NIST's certified values and statsmodels."""

import numpy as np
import pytest
import torch
from nist_data import digits, linear_problem
from statsmodels.regression.linear_model import WLS

from torchplug.objective.least_squares import accumulation
from torchplug_second_order.least_squares import solve
from torchplug_second_order.regression_table import regression_table


def table(X, Y, w=None, intercept=True, method="qr"):
    how = accumulation(method, X.shape[1], Y.shape[1], intercept)
    weight = np.ones(len(X)) if w is None else w
    R = how.factor(how.summarize([tuple(torch.from_numpy(np.array(part)) for part in (X, Y, weight))]))
    solution = solve(R, Y.shape[1], intercept=intercept, rows=len(X))
    return regression_table(R, solution.coefficients, intercept=intercept, samples=len(X))


def data(n=60, d=4, k=2):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + 1.0
    Y = X @ rng.normal(size=(d, k)) * [[1.0, 0.1]] + rng.normal(size=(n, k))
    return X, Y, rng.uniform(0.2, 3.0, n)


@pytest.mark.nist
@pytest.mark.parametrize(("name", "wanted"), [("Norris", 11), ("Pontius", 11), ("Longley", 9), ("Filip", 6)])
def test_certified_deviations(name, wanted):
    problem = linear_problem(name)
    found = table(problem.X, problem.y[:, None])
    assert digits(found.standard_error[:, 0].numpy(), problem.certified[:, 1]) >= wanted
    assert digits(found.deviation.numpy(), problem.deviation) >= wanted
    assert digits(found.r_squared.numpy(), problem.r_squared) >= wanted


@pytest.mark.parametrize("method", ["qr", "gram"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_every_output_as_statsmodels(method, intercept, weighted):
    X, Y, w = data()
    w = w if weighted else None
    found = table(X, Y, w, intercept, method)
    A = np.hstack([np.ones((len(X), 1)), X]) if intercept else X
    for j in range(2):
        peer = WLS(Y[:, j], A, 1.0 if w is None else w).fit()
        np.testing.assert_allclose(found.coefficients[:, j], peer.params, rtol=1e-9)
        np.testing.assert_allclose(found.standard_error[:, j], peer.bse, rtol=1e-9)
        identity = torch.eye(A.shape[1], dtype=torch.float64)
        columns = found.columns(found.coefficients, identity, torch.ones(2, dtype=torch.float64))
        np.testing.assert_allclose(columns["t"][:, j], peer.tvalues, rtol=1e-8)
        np.testing.assert_allclose(columns["p"][:, j], peer.pvalues, rtol=1e-7)
        interval = np.stack([columns["lower_95"][:, j], columns["upper_95"][:, j]], axis=1)
        np.testing.assert_allclose(interval, peer.conf_int(), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.r_squared[j], peer.rsquared, rtol=1e-9)
        np.testing.assert_allclose(found.covariance(j), peer.cov_params(), rtol=1e-8, atol=1e-14)
    assert found.degrees_of_freedom == peer.df_resid


def test_other_units_as_statsmodels_on_them():
    """Standardized features and target, against a fit of the data as they were."""
    X, Y, _ = data()
    center, scale = X.mean(0), X.std(0)
    target_center, target_scale = Y.mean(0), Y.std(0)
    trained = table((X - center) / scale, (Y - target_center) / target_scale)
    linear = np.vstack([np.r_[1.0, -center / scale], np.hstack([np.zeros((4, 1)), np.diag(1.0 / scale)])])
    coefficients = linear @ trained.coefficients.numpy() * target_scale
    coefficients[0] += target_center
    found = trained.columns(*(torch.from_numpy(part) for part in (coefficients, linear, target_scale)))
    for j in range(2):
        peer = WLS(Y[:, j], np.hstack([np.ones((len(X), 1)), X])).fit()
        np.testing.assert_allclose(found["standard_error"][:, j], peer.bse, rtol=1e-9)
        np.testing.assert_allclose(found["t"][:, j], peer.tvalues, rtol=1e-9)
        np.testing.assert_allclose(found["p"][:, j], peer.pvalues, rtol=1e-7)


def test_a_constant_target_has_no_r_squared():
    X, _, _ = data()
    found = table(X, np.zeros((60, 1)))
    assert torch.isnan(found.r_squared).all()
