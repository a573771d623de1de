"""Without a penalty, perfectly separated classes have no minimum: no optimizer claims one."""

import pytest
import torch
from regression_problems import DOUBLE, features, labels, linear, train

from torchplug.components.builtin.losses import BCE, MSE, CrossEntropy
from torchplug.components.builtin.regularizers import L2
from torchplug_robust.regression import PoissonNLL
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


# ------------------------------------------------------------------ some rows separated, the others not


def noisy(n, seed=0):
    """Features, of which the last three are small whole numbers, and labels that overlap."""
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(n, 5, generator=generator, dtype=DOUBLE)
    data[:, 2:] = data[:, 2:].round()
    score = data[:, 0] - 0.5 * data[:, 1] + 2.0 * torch.randn(n, generator=generator, dtype=DOUBLE)
    return data, score


def a_level(n=300):
    """The rows of one category all belong to the second class."""
    data, score = noisy(n)
    level = torch.arange(n) % 7 == 0
    y = (score > 0) | level
    return torch.cat([data, level.double()[:, None]], dim=1), y.double()[:, None], int(level.sum())


def two_levels(n=300):
    """Those of one all to the second class, those of another all to the first."""
    data, score = noisy(n)
    up, down = torch.arange(n) % 7 == 0, torch.arange(n) % 7 == 1
    y = ((score > 0) | up) & ~down
    extra = torch.stack([up, down], dim=1).double()
    return torch.cat([data, extra], dim=1), y.double()[:, None], int((up | down).sum())


def a_plane(n=300):
    """A combination of features separates all rows but those on it."""
    data, score = noisy(n)
    side = data[:, 2] + data[:, 3] - 2 * data[:, 4]
    y = torch.where(side == 0, score > 0, side > 0)
    return data, y.double()[:, None], int((side != 0).sum())


def three_classes(n=300):
    """The rows of one category all belong to the third class."""
    data, score = noisy(n)
    level = torch.arange(n) % 7 == 0
    y = torch.bucketize(score, torch.tensor([-1.0, 1.0], dtype=DOUBLE))
    y[level] = 2
    return torch.cat([data, level.double()[:, None]], dim=1), y, int(level.sum())


def no_counts(n=300):
    """No row of one category has counted anything."""
    data, score = noisy(n)
    level = torch.arange(n) % 7 == 0
    y = torch.poisson(torch.exp(0.3 * score), generator=torch.Generator().manual_seed(1))
    y[level] = 0.0
    return torch.cat([data, level.double()[:, None]], dim=1), y[:, None], int(level.sum())


QUASI = {
    "a level": (a_level, BCE),
    "two levels": (two_levels, BCE),
    "a plane": (a_plane, BCE),
    "three classes": (three_classes, CrossEntropy),
    "no counts": (no_counts, PoissonNLL),
}


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("case", QUASI)
@pytest.mark.parametrize("make", OPTIMIZERS, ids=lambda make: make.__name__)
def test_quasi_complete_separation_is_no_minimum(make, case, standardize):
    build, kind = QUASI[case]
    data, y, rows = build()
    if standardize:
        data = (data - data.mean(dim=0)) / data.std(dim=0)
    optimizer = train(make, linear((data, y), kind(), []), 500)
    assert optimizer.outcome.name == "stalled", optimizer.outcome
    assert "l2" in optimizer.outcome.remedy
    assert optimizer.statistics is None
    if make is newton:
        assert f"{rows} rows are perfectly separated" in optimizer.outcome.reason
    penalized = linear((data, y), kind(), [L2(1e-4)])
    assert train(make, penalized, 500).outcome.name == "converged"


def test_the_separating_feature_is_named():
    data, y, rows = a_level()
    objective = linear((data, y), BCE(), [])
    objective.training_set.feature_names = ("a", "b", "c", "d", "e", "kind=x")
    outcome = train(newton, objective).outcome
    assert outcome.reason.startswith(f"{rows} rows are perfectly separated by kind=x: ")
    assert "leave the feature out" in outcome.remedy


def rare():
    """One row in 900 of a category belongs to the second class."""
    data, score = noisy(3000)
    level = torch.arange(3000) % 3 == 0
    y = (score > 0) & ~level
    y[0] = True
    return torch.cat([data, level.double()[:, None]], dim=1), y.double()[:, None]


def far_off():
    """One row lies a million times farther than the others, on its class's side."""
    data, score = noisy(300)
    y = (score > 0).double()
    data[0, 0], y[0] = 1e6, 1.0
    return data, y[:, None]


def steep():
    """Scores reach to 60 and more, with some rows near zero on the wrong side."""
    data, _ = noisy(2000)
    noise = torch.logit(torch.rand(2000, generator=torch.Generator().manual_seed(1), dtype=DOUBLE))
    return data, (20.0 * data[:, :1] + noise[:, None] > 0).double()


@pytest.mark.parametrize("case", [rare, far_off, steep], ids=lambda case: case.__name__)
@pytest.mark.parametrize("make", [newton, lbfgs], ids=lambda make: make.__name__)
def test_rare_and_extreme_rows_are_no_separation(make, case):
    optimizer = train(make, linear(case(), BCE(), []), 1000)
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert optimizer.statistics is not None
