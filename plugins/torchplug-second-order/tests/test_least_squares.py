"""Coefficients from a triangular factor: NIST's certified values, NumPy, scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nist_data import digits, linear_problem
from sklearn.linear_model import LinearRegression, Ridge

from torchplug.objective.least_squares import accumulation
from torchplug_second_order.least_squares import solve


def factor(X, Y, w=None, intercept=True, method="qr"):
    how = accumulation(method, X.shape[1], Y.shape[1], intercept)
    weight = np.ones(len(X)) if w is None else w
    return how.factor(how.summarize([tuple(torch.from_numpy(np.array(part)) for part in (X, Y, weight))]))


def solved(X, Y, w=None, intercept=True, method="qr", penalty=None, center=None):
    Y = Y.reshape(len(X), -1)
    R = factor(X, Y, w, intercept, method)
    penalty, center = (None if part is None else torch.from_numpy(part) for part in (penalty, center))
    return solve(R, Y.shape[1], intercept=intercept, rows=len(X), penalty=penalty, center=center)


def normal(n, *shape, seed=0):
    return np.random.default_rng(seed).normal(size=(n, *shape))


def ones(X):
    return np.hstack([np.ones((len(X), 1)), X])


@pytest.mark.nist
@pytest.mark.parametrize(
    ("name", "wanted"),
    [("Norris", 11), ("Pontius", 11), ("Longley", 9), ("Filip", 7), ("Wampler1", 8), ("Wampler2", 8)],
)
def test_certified_digits_from_raw_data(name, wanted):
    problem = linear_problem(name)
    solution = solved(problem.X, problem.y)
    assert solution.rank == problem.X.shape[1] + 1
    assert solution.dependent == ()
    assert digits(solution.coefficients.numpy()[:, 0], problem.certified[:, 0]) >= wanted


@pytest.mark.nist
@pytest.mark.parametrize(("name", "wanted"), [("Norris", 11), ("Pontius", 9), ("Longley", 8)])
def test_products_keep_digits_where_the_condition_number_is_small(name, wanted):
    problem = linear_problem(name)
    solution = solved(problem.X, problem.y, method="gram")
    assert digits(solution.coefficients.numpy()[:, 0], problem.certified[:, 0]) >= wanted


@pytest.mark.parametrize("method", ["qr", "gram"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_several_outputs_and_weights_as_scikit_learn(method, intercept, weighted):
    X, Y = normal(300, 6) + 2.0, normal(300, 3, seed=1)
    w = np.random.default_rng(2).uniform(0.1, 3.0, 300) if weighted else None
    peer = LinearRegression(fit_intercept=intercept).fit(X, Y, w)
    solution = solved(X, Y, w, intercept, method)
    np.testing.assert_allclose(solution.coefficients[int(intercept) :], peer.coef_.T, rtol=1e-9, atol=1e-12)
    if intercept:
        np.testing.assert_allclose(solution.coefficients[0], peer.intercept_, rtol=1e-9)


@pytest.mark.parametrize("method", ["qr", "gram"])
def test_one_penalty_is_scikit_learns_ridge(method):
    X, Y = normal(80, 5) + 1.0, normal(80, 2, seed=1)
    penalty = np.vstack([np.zeros((1, 2)), np.full((5, 2), 7.0)])
    peer = Ridge(alpha=7.0).fit(X, Y)
    solution = solved(X, Y, method=method, penalty=penalty)
    np.testing.assert_allclose(solution.coefficients[1:], peer.coef_.T, rtol=1e-9)
    np.testing.assert_allclose(solution.coefficients[0], peer.intercept_, rtol=1e-9)


def test_a_penalty_for_each_coefficient_and_output():
    X, Y = normal(60, 4), normal(60, 3, seed=1)
    rng = np.random.default_rng(2)
    penalty, center = rng.uniform(0.0, 20.0, (5, 3)), rng.normal(size=(5, 3))
    penalty[1, 0] = penalty[0, 1] = 0.0
    A = ones(X)
    found = solved(X, Y, penalty=penalty, center=center).coefficients
    for j in range(3):
        L = np.diag(penalty[:, j])
        expected = np.linalg.solve(A.T @ A + L, A.T @ Y[:, j] + L @ center[:, j])
        np.testing.assert_allclose(found[:, j], expected, rtol=1e-10)


def least_slopes(X, Y, w=None):
    """The solution of least norm over the slopes of centred features, by NumPy's pseudo-inverse."""
    w = np.ones(len(X)) if w is None else w
    mean, target = np.average(X, axis=0, weights=w), np.average(Y, axis=0, weights=w)
    root = np.sqrt(w)[:, None]
    slopes = np.linalg.pinv(root * (X - mean), rcond=1e-10) @ (root * (Y - target))
    return np.vstack([target - mean @ slopes, slopes])


@pytest.mark.parametrize("method", ["qr", "gram"])
@pytest.mark.parametrize("weighted", [True, False])
def test_dependent_columns_give_the_least_slopes_and_are_named(method, weighted):
    X, Y = normal(100, 6) + 3.0, normal(100, 2, seed=1)
    X[:, 2] = 4.0
    X[:, 4] = 2.0 * X[:, 0] - X[:, 1]
    w = np.random.default_rng(3).uniform(0.5, 2.0, 100) if weighted else None
    solution = solved(X, Y, w, method=method)
    assert solution.rank == 5
    assert solution.condition > 1e6
    assert solution.dependent in ((1, 3), (2, 3), (3, 5))
    np.testing.assert_allclose(solution.coefficients, least_slopes(X, Y, w), rtol=1e-8, atol=1e-10)


def test_fewer_rows_than_columns():
    X, Y = normal(5, 9), normal(5, 1, seed=1)
    solution = solved(X, Y)
    assert solution.rank == 5
    assert len(solution.dependent) == 5
    np.testing.assert_allclose(solution.coefficients, least_slopes(X, Y), rtol=1e-9, atol=1e-12)
    without = solved(X, Y, intercept=False)
    np.testing.assert_allclose(without.coefficients, np.linalg.pinv(X) @ Y, rtol=1e-9, atol=1e-12)


def test_many_more_columns_than_rows():
    X, Y = normal(12, 2000), normal(12, 2, seed=1)
    solution = solved(X, Y)
    assert solution.rank == 12
    np.testing.assert_allclose(solution.coefficients, least_slopes(X, Y), rtol=1e-9, atol=1e-13)


@given(power=st.floats(-6, 6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_column_and_its_multiple_share_the_slope_by_their_units(power, seed):
    X, y = normal(50, 2, seed=seed), normal(50, 1, seed=seed + 1)
    multiple = 10.0**power
    both = solved(np.column_stack([X[:, :1], multiple * X[:, :1], 1e5 * X[:, 1:]]), y).coefficients[1:, 0]
    one = solved(X, y).coefficients[1:, 0]
    shares = torch.tensor([1.0, multiple], dtype=torch.float64) / (1.0 + multiple**2)
    np.testing.assert_allclose(both, torch.cat([shares * one[0], one[1:] / 1e5]), rtol=1e-9)


@given(units=st.lists(st.floats(-9, 9), min_size=4, max_size=4), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_units_of_the_features_do_not_change_the_rank(units, seed):
    X, y = normal(50, 4, seed=seed), normal(50, 1, seed=seed + 1)
    scale = 10.0 ** np.array(units)
    solution = solved(X * scale, y)
    assert solution.rank == 5
    np.testing.assert_allclose(
        solution.coefficients[1:, 0].numpy() * scale, solved(X, y).coefficients[1:, 0], rtol=1e-8
    )


def test_a_penalty_makes_dependent_columns_unique():
    X, y = normal(50, 3), normal(50, 1, seed=1)
    X[:, 2] = X[:, 1]
    penalty = np.array([[0.0], [1.0], [1.0], [1.0]])
    solution = solved(X, y, penalty=penalty)
    assert solution.dependent == ()
    np.testing.assert_allclose(solution.coefficients[1:, 0], Ridge(alpha=1.0).fit(X, y[:, 0]).coef_, rtol=1e-10)


def test_a_penalty_on_some_coefficients_leaves_the_others_dependent():
    X, y = normal(50, 4), normal(50, 1, seed=1)
    X[:, 3] = X[:, 2]
    penalty = np.array([[0.0], [1.0], [0.0], [0.0], [0.0]])
    solution = solved(X, y, penalty=penalty)
    assert solution.dependent in ((3,), (4,))
    assert solution.coefficients[3, 0].item() == pytest.approx(solution.coefficients[4, 0].item(), rel=1e-10)


def test_only_an_intercept():
    solution = solved(np.zeros((4, 0)), np.arange(4.0))
    assert solution.coefficients.item() == pytest.approx(1.5)


def test_the_condition_number_is_that_of_columns_of_norm_one():
    X = normal(200, 5) * [1.0, 10.0, 1e4, 1e-6, 1.0]
    A = ones(X)
    expected = np.linalg.cond(A / np.linalg.norm(A, axis=0))
    assert solved(X, normal(200, 1, seed=1)).condition == pytest.approx(expected, rel=1e-9)


def test_condition_1e8():
    """The relative error of the coefficients against a solution in extended precision."""
    rng = np.random.default_rng(0)
    n, d = 20_000, 20
    V = np.linalg.qr(rng.normal(size=(d, d)))[0]
    X = rng.normal(size=(n, d)) @ (np.logspace(0, -8, d)[:, None] * V.T)
    y = X @ V @ rng.normal(size=d)
    y += 1e-3 * y.std() * rng.normal(size=n)
    found = solved(X, y, intercept=False).coefficients[:, 0].numpy()
    R = np.linalg.qr(X, mode="r")
    exact, wide, target = found.astype(np.longdouble), X.astype(np.longdouble), y.astype(np.longdouble)
    for _ in range(10):  # corrections by the gradient in extended precision contract by cond·ε each
        gradient = (wide.T @ (target - wide @ exact)).astype(np.float64)
        exact += np.linalg.solve(R, np.linalg.solve(R.T, gradient))
    assert np.linalg.norm(found - exact) / np.linalg.norm(exact) <= 1e-7
