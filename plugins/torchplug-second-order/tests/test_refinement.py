"""A quasi-Newton method that says `converged` is within 1e-6 of the minimum, on problems that are ill-conditioned."""

import numpy as np
import pytest
import torch
from analytic_objective import AnalyticObjective, minimize
from regression_problems import DOUBLE, linear, train

from torchplug.components.builtin.losses import BCE, MSE, CrossEntropy
from torchplug_second_order.optimizers import bfgs, lbfgs, newton

METHODS = pytest.mark.parametrize("make", [bfgs, lbfgs], ids=lambda make: make.__name__)
# NIST, Statistical Reference Datasets, Wampler5: x = 0, …, 20, a polynomial of degree 5 with all coefficients 1
WAMPLER5 = """7590001 -20479994 20480063 -20479636 25231365 -20476094 20489331 -20460392 18417449 -20413570 20591111
-20302844 18651453 -20077766 21059195 -19666384 26348481 -18971402 22480719 -17866340 10958421"""


def standardized(X):
    X = X[:, X.std(axis=0) > 0]
    return torch.from_numpy((X - X.mean(axis=0)) / X.std(axis=0))


def real(name):
    datasets = pytest.importorskip("statsmodels.datasets")
    data = getattr(datasets, name).load_pandas()
    target = np.array(data.endog, dtype=float)
    X = standardized(np.asarray(data.exog, dtype=float))
    if name == "star98":
        return (X, torch.from_numpy(target[:, :1] / target.sum(axis=1, keepdims=True))), BCE()
    return (X, torch.from_numpy(target).long()), CrossEntropy()


@METHODS
@pytest.mark.parametrize("name", ["star98", "anes96"])
def test_real_tables(make, name):
    data, loss = real(name)
    exact, objective = linear(data, loss, []), linear(data, loss, [])
    train(newton, exact, gradient_tolerance=1e-12)
    optimizer = train(make, objective, 3000)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    # scores, as the coefficients of all classes may be shifted together
    scores, expected = (o.network(data[0]).detach() for o in (objective, exact))
    scores, expected = (s - s.mean(dim=1, keepdim=True) * (s.shape[1] > 1) for s in (scores, expected))
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=1e-6)
    if name == "star98":
        error = (objective.point - exact.point).abs().max() / exact.point.abs().max()
        assert error <= 1e-6


@METHODS
@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
def test_wampler5(make, unit):
    x = np.arange(21.0)
    powers = np.stack([x**k for k in range(1, 6)], axis=1)
    y = unit * torch.tensor([float(v) for v in WAMPLER5.split()], dtype=DOUBLE)[:, None]
    objective = linear((standardized(powers), y), MSE(), [])
    optimizer = train(make, objective, 2000)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    design = torch.cat([standardized(powers), torch.ones(21, 1, dtype=DOUBLE)], dim=1)
    expected = torch.linalg.lstsq(design, y).solution[:, 0]
    np.testing.assert_allclose(expected[:5].numpy() / powers.std(axis=0) / unit, 1.0, rtol=1e-5)
    assert (objective.point - expected).abs().max() <= 1e-6 * expected.abs().max()


@METHODS
@pytest.mark.parametrize("condition", [1e2, 1e6, 1e10])
def test_a_flat_direction_is_not_overlooked(make, condition):
    """Along the last parameter the decrease of F is lost in rounding long before the gradient is."""
    scales = torch.logspace(0, -float(np.log10(condition)), 8, dtype=DOUBLE)
    objective = AnalyticObjective(torch.zeros(8), lambda t: 1.0 + (scales * torch.cosh(t - 1.0)).sum())
    optimizer = minimize(make, objective, steps=3000)
    error = float((objective.point - 1.0).abs().max())
    if optimizer.outcome.name == "converged":
        assert error <= 1e-6, optimizer.outcome
    else:
        assert optimizer.outcome.name == "stalled"
        assert "newton" in optimizer.outcome.remedy
    assert error <= 1e-3


def test_a_claim_that_rounding_does_not_let_improve_is_stalled():
    """The gradient has an error that no step reduces."""
    scales = torch.tensor([1.0, 1e-9], dtype=DOUBLE)
    objective = AnalyticObjective([0.0, 0.0], lambda t: 1.0 + 0.5 * (scales * (t - 1.0) ** 2).sum())
    evaluate = objective.evaluate
    noise = torch.tensor([0.0, 1e-11], dtype=DOUBLE)
    objective.evaluate = lambda: (evaluate()[0], evaluate()[1] + noise * torch.sin(1e9 * objective.point))
    optimizer = minimize(lbfgs, objective)
    assert optimizer.outcome.name == "stalled", optimizer.outcome
    assert "newton" in optimizer.outcome.remedy


@METHODS
def test_losses_without_second_derivatives_are_taken_at_their_word(make):
    objective = AnalyticObjective([3.0, 4.0], lambda t: t.square().sum())

    def hvp(vector):
        raise NotImplementedError("the derivative of this is not implemented")

    objective.hvp = hvp
    assert minimize(make, objective).outcome.name == "converged"
