"""What says `converged` has converged, whatever the units of the target and of each parameter."""

import functools

import numpy as np
import pytest
import torch
from curve_problems import PROBLEMS, Curve, Table
from nist_data import digits

from torchplug import Objective
from torchplug.components.builtin.losses import MSE
from torchplug_second_order import optimizers

UNITS = {
    "small target": (1e-9, None),
    "large target": (1e6, None),
    "large parameters": (1.0, [1e6]),
    "small parameters": (1.0, [1e-6]),
    "mixed": (1e-9, [1e6, 1e-3, 1e9, 1.0, 1e-6, 1e3]),
}
DAMPED = ["levenberg_marquardt", "gauss_newton"]


def solve(name, method, start, target_unit=1.0, parameter_units=None, steps=500, **settings):
    """Digits of the parameters and the optimizer; units divide the numbers that the problem is stated in."""
    problem = PROBLEMS[name]
    units = np.resize(parameter_units or [1.0], len(problem.solution))
    scale = torch.from_numpy(units)
    curve = Curve(
        lambda b, x: target_unit * problem.function(b / scale, x), np.array(problem.starts[start - 1]) * units
    )
    table = Table(torch.from_numpy(problem.x)[:, None], torch.from_numpy(target_unit * problem.y)[:, None])
    objective = Objective(curve, MSE(), [], table)
    optimizer = getattr(optimizers, method)(curve.parameters(), **settings)
    for _ in range(steps):
        optimizer.step(objective=objective)
        if optimizer.outcome is not None:
            break
    return digits(curve.b.detach().numpy() / units, problem.solution), optimizer


@functools.cache
def as_given(name, method):
    """Digits and iterations in the problem's own units."""
    reached, optimizer = solve(name, method, 2)
    return reached, optimizer.iteration.number


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", DAMPED)
def test_digits_do_not_depend_on_units(method, name, units):
    reached, optimizer = solve(name, method, 2, *UNITS[units])
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert reached >= 7.0
    expected, iterations = as_given(name, method)
    assert reached == pytest.approx(expected, abs=0.2) or min(reached, expected) >= 8.5
    assert abs(optimizer.iteration.number - iterations) <= 2


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e6])
@pytest.mark.parametrize("name", PROBLEMS)
def test_levenberg_whatever_the_unit_of_the_target(name, unit):
    reached, optimizer = solve(name, "levenberg", 2, unit)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert reached >= 7.0


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("method", ["levenberg_marquardt", "gauss_newton", "levenberg"])
@pytest.mark.parametrize("start", [1, 2])
def test_converged_means_digits(name, method, start):
    """Gauss-Newton alone may fail from far; then it does not say otherwise."""
    reached, optimizer = solve(name, method, start, steps=200)
    if start == 2 or method != "gauss_newton":
        assert optimizer.outcome.name == "converged", optimizer.outcome
    if optimizer.outcome is not None and optimizer.outcome.name == "converged":
        assert reached >= 7.0, optimizer.outcome
    elif optimizer.outcome is not None:
        assert optimizer.outcome.remedy
