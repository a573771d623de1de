"""Without a penalty, perfectly separated classes have no minimum: no optimizer claims one."""

import pytest
import torch
from regression_problems import DOUBLE, features, labels, linear, train

from torchplug.builtin.losses import BCE, MSE, CrossEntropy
from torchplug.builtin.regularizers import L2
from torchplug_second_order.optimizers import bfgs, lbfgs, newton
from torchplug_second_order.proximal_newton import ProximalNewton

OPTIMIZERS = [newton, bfgs, lbfgs, ProximalNewton]
X = torch.arange(1, 41, dtype=DOUBLE)[:, None]
STANDARD = (X - X.mean()) / X.std()


def classes(k):
    """Labels that thresholds on the feature separate."""
    if k == 2:
        return (X > 20).double()
    return (X[:, 0] > 13).long() + (X[:, 0] > 27).long()


def loss(k):
    return BCE() if k == 2 else CrossEntropy()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("make", OPTIMIZERS, ids=lambda make: make.__name__)
def test_it_is_recognized(make, k, reduction):
    objective = linear((STANDARD, classes(k)), loss(k), [], reduction=reduction)
    optimizer = train(make, objective)
    assert optimizer.outcome.name == "stalled", optimizer.outcome
    assert "perfectly separated" in optimizer.outcome.reason
    assert "l2" in optimizer.outcome.remedy
    assert optimizer.iteration.number < 60


@pytest.mark.parametrize("make", [newton, bfgs, lbfgs], ids=lambda make: make.__name__)
def test_raw_features(make):
    optimizer = train(make, linear((X, classes(2)), BCE(), []), 500)
    assert optimizer.outcome.name == "stalled", optimizer.outcome
    assert "l2" in optimizer.outcome.remedy


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("make", OPTIMIZERS, ids=lambda make: make.__name__)
def test_the_remedy_helps(make, k):
    objective = linear((STANDARD, classes(k)), loss(k), [L2(1e-6)])
    optimizer = train(make, objective)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert float(objective.gradient().abs().max()) < 1e-8


@pytest.mark.parametrize("make", OPTIMIZERS, ids=lambda make: make.__name__)
def test_one_row_on_the_wrong_side_is_enough(make):
    y = classes(2)
    y[5] = 1.0
    objective = linear((STANDARD, y), BCE(), [])
    optimizer = train(make, objective)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert float(objective.gradient().abs().max()) < 1e-7


def test_nearly_all_rows_right_is_not_separation():
    data = labels(2000, 3)
    data[0][:, 0] += 50.0 * (data[1][:, 0] - 0.5)
    data[1][:2, 0] = 1.0 - data[1][:2, 0]
    optimizer = train(newton, linear(data, BCE(), []))
    assert optimizer.outcome.name == "converged", optimizer.outcome


def test_a_squared_loss_may_be_zero():
    data = features(50, 3)
    objective = linear((data, (data @ torch.ones(3, dtype=DOUBLE))[:, None]), MSE(), [])
    assert train(newton, objective).outcome.name == "converged"
