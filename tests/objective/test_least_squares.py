"""The streamed factor of a design against NumPy's dense products and solutions, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated_ranks import on_ranks
from torch import nn

from torchplug.objective.least_squares import Design, accumulation
from torchplug.objective.reductions import Ranks, cut, tree_sum

METHODS = ["qr", "gram"]


def rows(n, d, k, seed=0, weighted=True, offset=0.0):
    rng = np.random.default_rng(seed)
    X, Y = rng.normal(size=(n, d)) + offset, rng.normal(size=(n, k)) + offset
    return X, Y, rng.uniform(0.2, 2.0, n) if weighted else np.ones(n)


def dense(X, Y, w, intercept):
    """√w [1 X Y]."""
    ones = [np.ones((len(X), 1))] if intercept else []
    return np.sqrt(w)[:, None] * np.hstack([*ones, X, Y])


def blocks(X, Y, w, size, dtype=torch.float64):
    parts = [torch.from_numpy(a).to(dtype) for a in (X, Y, w)]
    return zip(*(torch.split(part, size) for part in parts), strict=True)


def factorized(method, X, Y, w, intercept, size=10, dtype=torch.float64):
    how = accumulation(method, X.shape[1], Y.shape[1], intercept)
    how.block_rows = 16
    return how.factor(how.summarize(blocks(X, Y, w, size, dtype))).numpy()


def assert_factor(R, A, rtol=1e-12):
    assert np.array_equal(R, np.triu(R))
    expected = A.T @ A
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    np.testing.assert_allclose(R.T @ R / scale, expected / scale, atol=rtol)


@pytest.mark.parametrize("method", METHODS)
@given(
    n=st.integers(1, 70),
    d=st.integers(1, 6),
    k=st.integers(1, 3),
    size=st.integers(1, 40),
    intercept=st.booleans(),
    weighted=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_the_factor_has_the_products_of_all_rows(method, n, d, k, size, intercept, weighted):
    X, Y, w = rows(n, d, k, seed=n, weighted=weighted)
    assert_factor(factorized(method, X, Y, w, intercept, size), dense(X, Y, w, intercept))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("intercept", [True, False])
def test_runs_combine_in_a_tree_alike_on_any_number_of_ranks(method, intercept):
    X, Y, w = rows(5000, 3, 2, offset=3.0)
    w[1024:2048] = 0.0  # a run that does not count

    def found(ranks):
        how = accumulation(method, 3, 2, intercept)

        def leaf(start, stop):
            part = slice(start, stop)
            return how.summarize(blocks(X[part], Y[part], w[part], 300))

        return how.factor(tree_sum(cut(5000, 1024), leaf, how.zero, ranks, how.combine)).numpy()

    alone = found(Ranks())
    assert_factor(alone, dense(X, Y, w, intercept))
    assert all(np.array_equal(alone, there) for there in on_ranks(2, found))


@pytest.mark.parametrize("method", METHODS)
def test_no_rows_give_zero(method):
    how = accumulation(method, 2, 1, True)
    assert torch.equal(how.summarize([]), how.zero)


@pytest.mark.parametrize("method", METHODS)
def test_single_precision_rows_are_summed_in_double(method):
    X, Y, w = rows(3000, 4, 1, offset=10.0)
    X, Y, w = (a.astype(np.float32).astype(np.float64) for a in (X, Y, w))
    R = factorized(method, X, Y, w, True, size=500, dtype=torch.float32)
    assert_factor(R, dense(X, Y, w, True))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("intercept", [True, False])
def test_the_solution_is_numpys(method, intercept):
    X, Y, w = rows(400, 5, 2)
    R = factorized(method, X, Y, w, intercept)
    A = dense(X, Y, w, intercept)
    expected, residual, *_ = np.linalg.lstsq(A[:, :-2], A[:, -2:], rcond=None)
    q = A.shape[1] - 2
    np.testing.assert_allclose(np.linalg.solve(R[:q, :q], R[:q, q:]), expected, rtol=1e-10)
    np.testing.assert_allclose(np.square(R[q:, q:]).sum(0), residual, rtol=1e-10)


def test_products_lose_no_digits_to_large_means():
    X, Y, w = rows(500, 3, 1)
    X += 1e6
    R = factorized("gram", X, Y, w, True)
    centred = dense(X - np.average(X, axis=0, weights=w), Y - np.average(Y, axis=0, weights=w), w, False)
    assert_factor(R[1:, 1:], centred, rtol=1e-9)


def test_products_leave_nothing_in_directions_of_rounding():
    X, Y, w = rows(300, 4, 1)
    X[:, 3] = X[:, 0] + X[:, 1]
    R = factorized("gram", X, Y, w, True)
    singular = np.linalg.svd(R[:5, :5], compute_uv=False)
    assert singular[-1] < 1e-14 * singular[0] < singular[-2]
    A = dense(X, Y, w, True)
    residual = A[:, 5] - A[:, :5] @ np.linalg.lstsq(A[:, :5], A[:, 5], rcond=None)[0]
    assert abs(R[5, 5]) == pytest.approx(np.linalg.norm(residual), rel=1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_give_a_factor_that_is_not(method, value):
    X, Y, w = rows(50, 2, 1)
    X[7, 1] = value
    assert not np.isfinite(factorized(method, X, Y, w, True)).all()


@pytest.mark.parametrize("method", METHODS)
def test_pieces_of_whole_blocks_make_no_difference(method):
    X, Y, w = rows(100, 3, 1)
    assert np.array_equal(factorized(method, X, Y, w, True, 32), factorized(method, X, Y, w, True, 64))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("intercept", [True, False])
def test_value_and_gradient_anywhere_are_those_of_the_network(method, intercept):
    X, Y, w = rows(60, 3, 2)
    network = nn.Linear(3, 2, bias=intercept, dtype=torch.float64)
    design = Design(intercept, 3, 2, torch.from_numpy(factorized(method, X, Y, w, intercept)), 60, 0.5 / 60)
    error = network(torch.from_numpy(X)) - torch.from_numpy(Y)
    value = (error.square().sum(1) * torch.from_numpy(w)).sum() * 0.5 / 60
    value.backward()
    point = torch.cat([p.detach().reshape(-1) for p in network.parameters()])
    found, gradient = design.evaluate(point)
    assert found == pytest.approx(value.item(), rel=1e-12)
    torch.testing.assert_close(gradient, torch.cat([p.grad.reshape(-1) for p in network.parameters()]))
    assert torch.equal(design.flat(design.matrix(point)), point)


def test_the_rows_of_a_block_follow_from_its_width():
    sizes = [accumulation("qr", d, 1, True).block_rows for d in (1, 100, 1000)]
    assert sizes == [2**15, 2**13, 2**12]
