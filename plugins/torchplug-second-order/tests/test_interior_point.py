"""Piecewise linear losses to 1e-8 of the minimum that scikit-learn, statsmodels and scipy's linear programs find."""

import io

import numpy as np
import pytest
import scipy.optimize
import torch
from regression_problems import DOUBLE, InMemory, features, linear, numbers, train
from sklearn.linear_model import QuantileRegressor
from sklearn.svm import SVC
from statsmodels.regression.quantile_regression import QuantReg
from torch import nn

from torchplug import Loss, Objective, Pieces
from torchplug.components.builtin.losses import L1
from torchplug.components.builtin.regularizers import L2
from torchplug.components.models import Linear
from torchplug_robust.classification import Hinge
from torchplug_robust.regression import Quantile
from torchplug_second_order.interior_point import InteriorPoint

PRECISION = 1e-8


class EpsilonInsensitive(Loss):
    """Σ max(0, |z − y| − ε): a third party's, with two knots."""

    kind = "regression"
    smooth = False

    def __init__(self, epsilon=0.3):
        super().__init__()
        self.epsilon = epsilon

    def forward(self, scores, target):
        return torch.relu((scores - target).abs() - self.epsilon).sum(dim=1)

    def pieces(self, target):
        knots = torch.stack([target - self.epsilon, target + self.epsilon], dim=2)
        return Pieces(knots, target.new_tensor([-1.0, 0.0, 1.0]).expand(*target.shape, 3))


class Polynomial(nn.Module):
    """Linear in its parameters, and no linear map; its offset is not trained."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.3, -0.5, 2.0], dtype=DOUBLE))

    def forward(self, x):
        x = x[:, :1]
        return 0.7 + self.a[0] + self.a[1] * x + self.a[2] * x**2


def quantiles(data, orders, w=None, **settings):
    X, y = data
    network = Linear(X.shape[1], len(orders) * y.shape[1]).double()
    objective = Objective(network, Quantile(orders), [], weighted(X, y, w), **settings)
    return objective, train(InteriorPoint, objective, 100)


def weighted(X, y, w=None):
    rows = InMemory(X, y)
    if w is not None:
        rows.tensors = (X, y, torch.from_numpy(w))
    return rows


def assert_minimum(objective, optimizer, lowest):
    """Not above the peer's minimum, nor below it by more than its own error."""
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert objective.value() == pytest.approx(lowest, rel=PRECISION, abs=1e-14)


def pinball(error, q):
    return np.maximum(q * error, (q - 1) * error)


def by_linear_program(A, y, q, w=None):
    """The least weighted mean of the pinball loss, by scipy's simplex method."""
    n, d = A.shape
    w = np.full(n, 1.0) if w is None else w
    cost = np.concatenate([np.zeros(2 * d), q * w, (1 - q) * w]) / n
    solved = scipy.optimize.linprog(cost, A_eq=np.hstack([A, -A, np.eye(n), -np.eye(n)]), b_eq=y, method="highs-ds")
    return solved.fun


@pytest.mark.parametrize(("n", "d"), [(40, 1), (300, 5), (1500, 20)])
@pytest.mark.parametrize("q", [0.5, 0.9, 0.02])
def test_a_quantile_as_scikit_learn_and_statsmodels(n, d, q):
    X, y = numbers(n, d)
    objective, optimizer = quantiles((X, y), [q])
    A, target = X.numpy(), y[:, 0].numpy()
    peer = QuantileRegressor(quantile=q, alpha=0.0, solver="highs").fit(A, target)
    assert_minimum(objective, optimizer, pinball(target - peer.predict(A), q).mean())
    assert optimizer.iteration.number <= 30
    design = np.column_stack([np.ones(n), A])
    other = QuantReg(target, design).fit(q=q, max_iter=5000, p_tol=1e-9)
    assert objective.value() <= pinball(target - design @ other.params, q).mean() * (1 + PRECISION)


def test_engels_data_as_statsmodels():
    from statsmodels.datasets import engel

    data = engel.load_pandas().data
    X = torch.from_numpy(data[["income"]].to_numpy().copy())
    y = torch.from_numpy(data[["foodexp"]].to_numpy().copy())
    objective, optimizer = quantiles((X, y), [0.5])
    assert optimizer.outcome.name == "converged"
    slope, intercept = objective.point.tolist()
    # Koenker and Hallock (2001), doi:10.1257/jep.15.4.143, as R's quantreg documents them
    assert intercept == pytest.approx(81.48225, abs=1e-5)
    assert slope == pytest.approx(0.5601806, abs=1e-7)


def test_several_quantiles_and_targets_are_each_its_own_minimum():
    X, y = numbers(200, 3)
    both = torch.cat([y, y.square()], dim=1)
    orders = [0.1, 0.5, 0.8]
    objective, optimizer = quantiles((X, both), orders)
    A = np.column_stack([np.ones(200), X.numpy()])
    lowest = sum(by_linear_program(A, both[:, j].numpy(), q) for j in range(2) for q in orders)
    assert_minimum(objective, optimizer, lowest)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights(reduction):
    X, y = numbers(200, 3)
    w = np.random.default_rng(0).uniform(0.0, 3.0, 200)
    w[:20] = 0.0
    objective, optimizer = quantiles((X, y), [0.3], w, reduction=reduction)
    lowest = by_linear_program(np.column_stack([np.ones(200), X.numpy()]), y[:, 0].numpy(), 0.3, w)
    assert_minimum(objective, optimizer, lowest * (200 if reduction == "sum" else 1))


@pytest.mark.parametrize("per_output", ["sum", "mean"])
@pytest.mark.parametrize("bias", [True, False])
def test_absolute_error(per_output, bias):
    X, y = numbers(150, 4)
    both = torch.cat([y, y.square()], dim=1)
    network = Linear(4, 2, bias=bias).double()
    objective = Objective(network, L1(per_output), [], InMemory(X, both))
    optimizer = train(InteriorPoint, objective, 100)
    A = np.column_stack([np.ones(150), X.numpy()]) if bias else X.numpy()
    lowest = sum(2 * by_linear_program(A, both[:, j].numpy(), 0.5) for j in range(2))
    assert_minimum(objective, optimizer, lowest / (2 if per_output == "mean" else 1))


@pytest.mark.parametrize("coefficient", [1e-5, 1e-2, 1.0])
def test_a_support_vector_machine_as_scikit_learn(coefficient):
    X = features(200, 4)
    z = X[:, 0] - X[:, 1] + torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)
    y = (z > 0.3).double()[:, None]
    objective = linear((X, y), Hinge(), [L2(coefficient)])
    optimizer = train(InteriorPoint, objective, 100)
    peer = SVC(kernel="linear", C=1.0 / (2 * 200 * coefficient), tol=1e-10).fit(X.numpy(), y[:, 0].numpy())
    margins = (2 * y[:, 0].numpy() - 1) * peer.decision_function(X.numpy())
    lowest = np.maximum(0, 1 - margins).mean() + coefficient * (peer.coef_**2).sum()
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert objective.value() <= lowest * (1 + PRECISION)
    assert objective.value() == pytest.approx(lowest, rel=1e-5)  # what is left of the peer's own tolerance


def test_a_third_partys_loss_with_two_knots():
    X, y = numbers(150, 3)
    objective = linear((X, y), EpsilonInsensitive(), [])
    optimizer = train(InteriorPoint, objective, 100)
    A, n = np.column_stack([np.ones(150), X.numpy()]), 150
    cost = np.concatenate([np.zeros(8), np.full(n, 1 / n)])
    above, below = np.hstack([A, -A, -np.eye(n)]), np.hstack([-A, A, -np.eye(n)])
    bounds = np.concatenate([y[:, 0].numpy() + 0.3, 0.3 - y[:, 0].numpy()])
    peer = scipy.optimize.linprog(cost, A_ub=np.vstack([above, below]), b_ub=bounds, method="highs-ds")
    assert_minimum(objective, optimizer, peer.fun)


def test_any_network_that_is_linear_in_its_parameters():
    X, y = numbers(120, 1)
    objective = linear((X, y), L1(), [], network=Polynomial())
    assert objective.has_linear_scores()
    optimizer = train(InteriorPoint, objective, 100)
    x = X[:, 0].numpy()
    lowest = 2 * by_linear_program(np.column_stack([np.ones(120), x, x**2]), y[:, 0].numpy() - 0.7, 0.5)
    assert_minimum(objective, optimizer, lowest)


@pytest.mark.parametrize("units", [1e-9, 1e9])
def test_units_do_not_matter(units):
    X, y = numbers(200, 3)
    plain, expected = quantiles((X, y), [0.3])
    scale = torch.tensor([1e-6, 1.0, 1e6], dtype=DOUBLE)
    other, optimizer = quantiles((X * scale, units * y), [0.3])
    assert other.value() == pytest.approx(units * plain.value(), rel=1e-9)
    assert abs(optimizer.iteration.number - expected.iteration.number) <= 2


def test_dependent_columns():
    X, y = numbers(200, 3)
    more = torch.cat([X, X[:, :1] - X[:, 1:2], torch.zeros(200, 1, dtype=DOUBLE)], dim=1)
    plain, _ = quantiles((X, y), [0.3])
    objective, optimizer = quantiles((more, y), [0.3])
    assert_minimum(objective, optimizer, plain.value())
    assert float(objective.point.abs().max()) < 100


def test_ties_where_the_minimum_is_not_unique():
    X, y = numbers(200, 2)
    X, y = X.round(), y.round()
    objective, optimizer = quantiles((X, y), [0.5])
    lowest = by_linear_program(np.column_stack([np.ones(200), X.numpy()]), y[:, 0].numpy(), 0.5)
    assert_minimum(objective, optimizer, lowest)


def test_a_loss_of_zero():
    X = features(50, 3)
    y = (X @ torch.ones(3, dtype=DOUBLE))[:, None]
    objective, optimizer = quantiles((X, y), [0.4])
    assert optimizer.outcome.name == "converged"
    torch.testing.assert_close(objective.network.map.weight.detach()[0], torch.ones(3, dtype=DOUBLE), rtol=1e-9, atol=0)


def test_more_parameters_than_rows():
    X, y = numbers(20, 30)
    objective, optimizer = quantiles((X, y), [0.4])
    assert optimizer.outcome.name == "converged", optimizer.outcome
    assert objective.value() < 1e-9


def test_a_fit_that_is_resumed_goes_on_with_the_same_bits():
    data = numbers(200, 3)
    whole, _ = quantiles(data, [0.2, 0.7])
    objective = Objective(Linear(3, 2).double(), Quantile([0.2, 0.7]), [], InMemory(*data))
    first = InteriorPoint(objective.parameters)
    for _ in range(4):
        first.step(objective=objective)
    kept = io.BytesIO()
    torch.save(first.state_dict(), kept)
    kept.seek(0)
    again = InteriorPoint(objective.parameters)
    again.load_state_dict(torch.load(kept, weights_only=True))
    assert again.iteration == first.iteration
    for _ in range(60):
        again.step(objective=objective)
    assert again.outcome.name == "converged"
    assert torch.equal(objective.point, whole.point)
    before = again.iteration
    again.step(objective=objective)
    assert again.iteration == before


def test_a_limit():
    X, y = numbers(100, 3)
    objective = Objective(Linear(3, 1).double(), L1(), [], InMemory(X, y))
    optimizer = train(InteriorPoint, objective, max_iterations=2)
    assert optimizer.outcome.name == "limit"
    assert optimizer.iteration.number == 2


class Hat(Loss):
    """−|z|, which is not convex."""

    kind = "regression"
    smooth = False

    def forward(self, scores, target):
        return -(scores - target).abs().sum(dim=1)

    def pieces(self, target):
        return Pieces(target.unsqueeze(2), target.new_tensor([1.0, -1.0]).expand(*target.shape, 2))


def test_what_is_refused():
    data = numbers(50, 3)
    with pytest.raises(ValueError, match="not convex"):
        InteriorPoint(linear(data, Hat(), []).parameters).refuse(linear(data, Hat(), []))
    with pytest.raises(ValueError, match=r"50 rows and 4 parameters would need .* raise memory_limit"):
        InteriorPoint(linear(data, L1(), []).parameters, memory_limit=1e-9).refuse(linear(data, L1(), []))
    for settings in ({"gap_tolerance": 0.0}, {"memory_limit": -1.0}, {"max_iterations": -1}):
        with pytest.raises(ValueError, match="must be"):
            InteriorPoint(linear(data, L1(), []).parameters, **settings)
