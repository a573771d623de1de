"""A point where a curve hardly depends on a parameter is no minimum, however small the gradient is."""

import numpy as np
import pytest
import torch
from curve_problems import PROBLEMS, Curve, Table
from nist_data import NONLINEAR, digits, nonlinear_problem
from regression_problems import DOUBLE, numbers, train

from torchplug import Objective
from torchplug.components.builtin.losses import MSE
from torchplug.components.models import MLP
from torchplug_robust.regression import PoissonNLL
from torchplug_second_order.optimizers import bfgs, lbfgs, levenberg_marquardt, line_search, newton

METHODS = pytest.mark.parametrize(
    "make",
    [newton, bfgs, lbfgs, line_search, levenberg_marquardt],
    ids=lambda make: make.__name__,
)


def solved(make, function, x, y, start, certified, units=(1.0, 1.0), steps=150):
    """Digits that were reached, and the outcome."""
    target, parameter = units
    network = Curve(lambda b, x: target * function(b / parameter, x), np.asarray(start, dtype=float) * parameter)
    objective = Objective(network, MSE(), [], Table(x, target * y))
    optimizer = train(make, objective, steps)
    return digits(network.b.detach().numpy() / parameter, certified), optimizer.outcome


def assert_honest(reached, outcome):
    if outcome is None:
        return
    if outcome.name == "converged":
        assert reached >= 4.0, outcome
    else:
        assert outcome.remedy


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("name", PROBLEMS)
@METHODS
def test_converged_means_digits(make, name, start):
    problem = PROBLEMS[name]
    x, y = (torch.from_numpy(part)[:, None] for part in (problem.x, problem.y))
    assert_honest(*solved(make, problem.function, x, y, problem.starts[start], problem.solution))


@pytest.mark.parametrize("start", [1, 2])
@pytest.mark.nist
@pytest.mark.parametrize("name", NONLINEAR)
@METHODS
def test_converged_means_digits_on_nists_files(make, name, start):
    x, y, given, certified, _ = nonlinear_problem(name, start)
    assert_honest(*solved(make, NONLINEAR[name], x, y, given, certified))


@pytest.mark.parametrize("units", [(1e-9, 1e6), (1e6, 1e-6)])
@pytest.mark.nist
@pytest.mark.parametrize(("name", "start"), [("MGH10", 1), ("BoxBOD", 2)])
@pytest.mark.parametrize("make", [bfgs, lbfgs], ids=lambda make: make.__name__)
def test_plateaus_in_other_units(make, name, start, units):
    x, y, given, certified, _ = nonlinear_problem(name, start)
    assert_honest(*solved(make, NONLINEAR[name], x, y, given, certified, units))


@pytest.mark.parametrize("make", [newton, bfgs, lbfgs], ids=lambda make: make.__name__)
def test_the_parameters_on_which_nothing_depends_are_named(make):
    problem = PROBLEMS["Rat43"]
    x, y = (torch.from_numpy(part)[:, None] for part in (problem.x, problem.y))
    _, outcome = solved(make, problem.function, x, y, problem.starts[0], problem.solution)
    assert outcome.name == "stalled", outcome
    assert "flat, as the model hardly depends on b[1], b[2], b[3]" in outcome.reason
    assert "start nearer" in outcome.remedy


def test_likelihoods_of_curves_have_plateaus_as_well():
    x = torch.linspace(1, 5, 40, dtype=DOUBLE)[:, None]
    y = torch.poisson(torch.exp(2 * torch.exp(-0.3 * x)), generator=torch.Generator().manual_seed(0))
    network = Curve(lambda b, x: b[0] + b[1] * torch.exp(-b[2] * x), np.array([0.5, 1.0, 60.0]))
    objective = Objective(network, PoissonNLL(), [], Table(x, y))
    outcome = train(newton, objective).outcome
    assert outcome.name == "stalled", outcome
    assert "b[" in outcome.reason


def test_a_saturated_unit_of_a_perceptron_is_no_plateau():
    torch.manual_seed(0)
    X, y = numbers(80, 2)
    network = MLP(2, 1, hidden=[2], activation="relu").double()
    with torch.no_grad():
        network.layers[0].bias[0] = -1e3  # dead: no row reaches it
    objective = Objective(network, MSE(), [], Table(X, y))
    outcome = train(bfgs, objective, 1000).outcome
    assert outcome is None or "flat" not in outcome.reason
