"""Standard errors of iterative fits: statsmodels' likelihood models and NIST's certified deviations."""

import io

import numpy as np
import pytest
import torch
from curve_problems import Curve, Table
from nist_data import NONLINEAR, digits, nonlinear_problem
from regression_problems import DOUBLE, features, labels, linear, numbers, signal, train
from statsmodels.api import GLM, OLS, Logit, MNLogit, Poisson, add_constant, families

from torchplug import Loss, Objective
from torchplug.components.builtin.losses import BCE, MSE, CrossEntropy
from torchplug.components.builtin.regularizers import L1, L2
from torchplug_robust.classification import Focal
from torchplug_robust.regression import LogCosh, PoissonNLL
from torchplug_second_order.optimizers import (
    bfgs,
    gauss_newton,
    lbfgs,
    levenberg,
    levenberg_marquardt,
    line_search,
    newton,
)
from torchplug_second_order.proximal_newton import ProximalNewton

LIKELIHOODS = pytest.mark.parametrize(
    "make", [newton, bfgs, lbfgs, ProximalNewton], ids=["newton", "bfgs", "lbfgs", "proximal_newton"]
)
CURVE_METHODS = pytest.mark.parametrize(
    "make", [levenberg_marquardt, gauss_newton, levenberg], ids=lambda make: make.__name__
)


def counts(n, d, k=1):
    X = features(n, d)
    generator = torch.Generator().manual_seed(4)
    return X, torch.poisson(torch.exp(0.3 * signal(X))[:, None].expand(n, k).contiguous(), generator=generator)


def classes(n, d, k):
    X = features(n, d)
    z = signal(X) + torch.randn(n, generator=torch.Generator().manual_seed(2), dtype=DOUBLE)
    return X, torch.bucketize(z, torch.quantile(z, torch.linspace(0, 1, k + 1, dtype=DOUBLE)[1:-1]))


def compared(objective, optimizer, peer, rtol=1e-7):
    """Columns of the table beside those of statsmodels, whose parameters are (q,) or (q, k − 1)."""
    assert optimizer.outcome.name == "converged", optimizer.outcome
    shape = objective.linear_map
    units = torch.ones(shape.outputs, dtype=DOUBLE)
    coefficients = shape.matrix(objective.point)
    found = optimizer.statistics.columns(coefficients, torch.eye(shape.columns, dtype=DOUBLE), units)
    first = shape.outputs - (1 if peer.params.ndim == 1 else peer.params.shape[1])
    name = "t" if "t" in found else "z"

    def column(key):
        return found[key][:, first:].numpy().reshape(peer.params.shape)

    expected = found.get("coefficient", coefficients)[:, first:].numpy().reshape(peer.params.shape)
    np.testing.assert_allclose(expected, peer.params, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(column("standard_error"), peer.bse, rtol=rtol)
    np.testing.assert_allclose(column(name), peer.tvalues, rtol=10 * rtol, atol=10 * rtol)
    np.testing.assert_allclose(column("p"), peer.pvalues, rtol=1e-5, atol=1e-12)
    interval = np.stack([column("lower_95").T.ravel(), column("upper_95").T.ravel()], axis=1)
    np.testing.assert_allclose(interval, np.asarray(peer.conf_int()).reshape(-1, 2), rtol=1e-6, atol=1e-7)
    return found


def fitted_by(model, X, y, **settings):
    return model(y, X, **settings).fit(method="newton", tol=1e-14, maxiter=100, disp=0)


@LIKELIHOODS
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_logistic(make, bias, reduction):
    X, y = labels(400, 5)
    objective = linear((X, y), BCE(), [], bias=bias, reduction=reduction)
    optimizer = train(make, objective, 500)
    A = X.numpy()
    compared(objective, optimizer, fitted_by(Logit, add_constant(A) if bias else A, y[:, 0].numpy()), 1e-6)


@LIKELIHOODS
@pytest.mark.parametrize("k", [3, 5])
def test_multinomial_relative_to_the_first_class(make, k):
    X, y = classes(600, 4, k)
    objective = linear((X, y), CrossEntropy(), [])
    found = compared(
        objective, train(make, objective, 500), fitted_by(MNLogit, add_constant(X.numpy()), y.numpy()), 1e-6
    )
    assert bool((found["coefficient"][:, 0] == 0.0).all())
    assert bool(found["standard_error"][:, 0].isnan().all())


@LIKELIHOODS
def test_poisson(make):
    X, y = counts(500, 4)
    objective = linear((X, y), PoissonNLL(full=True), [])
    peer = fitted_by(Poisson, add_constant(X.numpy()), y[:, 0].numpy())
    compared(objective, train(make, objective, 500), peer, 1e-6)


def test_several_counts_have_errors_of_their_own():
    X, y = counts(300, 3, k=2)
    objective = linear((X, y), PoissonNLL(), [], network=torch.nn.Linear(3, 2).double())
    optimizer = train(newton, objective)
    error = optimizer.statistics.standard_error
    for j in range(2):
        peer = fitted_by(Poisson, add_constant(X.numpy()), y[:, j].numpy())
        np.testing.assert_allclose(error[:, j], peer.bse, rtol=1e-7)


def test_weights_are_frequencies_whose_mean_is_one():
    X, y = labels(300, 3)
    w = np.random.default_rng(0).uniform(0.2, 3.0, 300)
    w /= w.mean()
    objective = linear((X, y), BCE(), [])
    objective.training_set.tensors = (X, y, torch.from_numpy(w))
    optimizer = train(newton, objective)
    peer = GLM(y[:, 0].numpy(), add_constant(X.numpy()), family=families.Binomial(), freq_weights=w).fit(tol=1e-14)
    np.testing.assert_allclose(optimizer.statistics.standard_error[:, 0], peer.bse, rtol=1e-7)


@pytest.mark.parametrize("make", [newton, lbfgs, gauss_newton, levenberg_marquardt], ids=lambda make: make.__name__)
def test_least_squares_of_a_linear_model(make):
    X, y = numbers(200, 5)
    objective = linear((X, y), MSE(), [])
    found = compared(objective, train(make, objective), OLS(y[:, 0].numpy(), add_constant(X.numpy())).fit(), 1e-7)
    assert found["r_squared"][0, 0] == pytest.approx(OLS(y[:, 0].numpy(), add_constant(X.numpy())).fit().rsquared)


def curve(name, make, target_unit=1.0, parameter_unit=1.0):
    x, y, start, certified, deviations = nonlinear_problem(name)
    network = Curve(lambda b, x: target_unit * NONLINEAR[name](b / parameter_unit, x), start * parameter_unit)
    objective = Objective(network, MSE(), [], Table(x, target_unit * y))
    optimizer = train(make, objective, 500)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    return optimizer.statistics.parameter_columns(), certified * parameter_unit, deviations * parameter_unit


@CURVE_METHODS
@pytest.mark.nist
@pytest.mark.parametrize("name", NONLINEAR)
def test_certified_deviations_of_curves(make, name):
    found, certified, deviations = curve(name, make)
    assert digits(found["coefficient"].numpy(), certified) >= 6
    assert digits(found["standard_error"].numpy(), deviations) >= 6
    np.testing.assert_allclose(found["t"], certified / deviations, rtol=1e-5)
    assert bool((found["lower_95"] < found["coefficient"]).all())
    assert bool((found["upper_95"] > found["coefficient"]).all())


@pytest.mark.parametrize("make", [levenberg_marquardt, gauss_newton], ids=lambda make: make.__name__)
@pytest.mark.parametrize("units", [(1e-9, 1.0), (1e6, 1e6), (1.0, 1e-6)])
@pytest.mark.nist("Thurber")
def test_units_do_not_change_the_digits(make, units):
    found, _, deviations = curve("Thurber", make, *units)
    assert digits(found["standard_error"].numpy(), deviations) >= 6


@pytest.mark.nist("Misra1a")
def test_a_curve_by_newton_has_the_errors_of_least_squares():
    found, certified, deviations = curve("Misra1a", newton)
    assert digits(found["coefficient"].numpy(), certified) >= 6
    assert digits(found["standard_error"].numpy(), deviations) >= 6


def test_a_likelihood_of_a_curve_has_the_observed_information():
    x = torch.linspace(0, 3, 80, dtype=DOUBLE)[:, None]
    y = torch.poisson(torch.exp(1.0 + 1.5 * torch.sin(x)), generator=torch.Generator().manual_seed(1))
    network = Curve(lambda b, x: b[0] + b[1] * torch.sin(b[2] * x), np.array([0.8, 1.2, 1.1]))
    objective = Objective(network, PoissonNLL(), [], Table(x, y))
    found = train(newton, objective).statistics.parameter_columns()
    covariance = torch.linalg.inv(80 * objective.hessian())
    np.testing.assert_allclose(found["standard_error"], covariance.diagonal().sqrt(), rtol=1e-9)
    assert "z" in found


@pytest.mark.parametrize(
    ("data", "loss", "penalties", "make"),
    [
        (labels(200, 3), BCE(), [L2(1e-3)], newton),
        (labels(200, 3), BCE(), [L1(1e-3, proximal=True)], ProximalNewton),
        (labels(200, 3), BCE(positive_weight=2.0), [], newton),
        (labels(200, 3), Focal(), [], newton),
        (classes(200, 3, 3), CrossEntropy(label_smoothing=0.1), [], newton),
        (numbers(200, 3), LogCosh(), [], newton),
        (numbers(200, 3), MSE(), [L2(1e-3)], levenberg_marquardt),
    ],
)
def test_there_are_none_where_they_would_mean_nothing(data, loss, penalties, make):
    optimizer = train(make, linear(data, loss, penalties))
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert optimizer.statistics is None


def test_a_subclass_with_another_value_is_no_likelihood():
    class Smoothed(BCE):
        def forward(self, scores, target):
            return super().forward(scores, 0.9 * target + 0.05)

    optimizer = train(newton, linear(labels(200, 3), Smoothed(), []))
    assert optimizer.outcome.name == "converged"
    assert optimizer.statistics is None


def test_a_third_partys_likelihood():
    class Exponential(Loss):
        kind = "regression"
        likelihood = True

        def forward(self, scores, target):
            return (scores + target * torch.exp(-scores)).sum(dim=1)

    X = features(300, 3)
    y = torch.exp(0.3 * signal(X))[:, None]
    objective = linear((X, y), Exponential(), [])
    optimizer = train(newton, objective)
    assert optimizer.outcome.name == "converged"
    covariance = torch.linalg.inv(300 * objective.hessian())
    expected = objective.linear_map.matrix(covariance.diagonal().sqrt())
    np.testing.assert_allclose(optimizer.statistics.standard_error, expected, rtol=1e-9)


@pytest.mark.parametrize(("loss", "data"), [(BCE(), labels(200, 3)), (MSE(), numbers(200, 3))])
@pytest.mark.parametrize("make", [newton, lbfgs], ids=lambda make: make.__name__)
def test_dependent_columns_have_none(loss, data, make):
    X = torch.cat([data[0], data[0][:, :1] + data[0][:, 1:2]], dim=1)
    optimizer = train(make, linear((X, data[1]), loss, []), 500)
    assert optimizer.statistics is None


def test_as_many_parameters_as_rows_have_none():
    X, y = numbers(6, 5)
    optimizer = train(gauss_newton, linear((X, y), MSE(), []))
    assert optimizer.statistics is None


def test_an_unfinished_fit_has_none():
    optimizer = train(line_search, linear(labels(200, 3), BCE(), []), max_iterations=2)
    assert optimizer.outcome.name == "limit"
    assert optimizer.statistics is None


@pytest.mark.parametrize(("loss", "data"), [(BCE(), labels(200, 3)), (MSE(), numbers(200, 3))])
def test_it_comes_back_from_a_checkpoint(loss, data):
    objective = linear(data, loss, [])
    optimizer = train(newton, objective)
    kept = io.BytesIO()
    torch.save(optimizer.state_dict(), kept)
    kept.seek(0)
    again = newton(objective.parameters)
    again.load_state_dict(torch.load(kept, weights_only=True))
    assert type(again.statistics) is type(optimizer.statistics)
    assert torch.equal(again.statistics.standard_error, optimizer.statistics.standard_error)
