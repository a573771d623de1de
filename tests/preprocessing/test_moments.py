import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug.preprocessing.moments import Moments, RunningMoments


def exact(values):
    """Mean and population standard deviation of columns (n, d) by NumPy in extended precision, 1 for constant ones."""
    wide = values.astype(np.longdouble)
    return wide.mean(0).astype(float), np.where(np.ptp(values, 0) > 0, wide.std(0).astype(float), 1.0)


def running(values, cuts):
    """The moments of columns (n, d) in blocks of rows."""
    total = RunningMoments()
    for block in np.split(values, cuts):
        total.add(Moments.of(list(block.T)))
    return total.total()


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 200), st.lists(st.integers(0, 200), max_size=20), st.integers(0, 2**32 - 1))
def test_blocks_have_the_moments_of_the_whole(n, cuts, seed):
    generator = np.random.default_rng(seed)
    # far from zero, of very different sizes, constant
    values = generator.normal(size=(n, 4)) * [1.0, 1e-6, 1e160, 0.0] + [1e3, 1e3, 0.0, 0.1]
    total = running(values, sorted(min(cut, n) for cut in cuts))
    mean, spread = exact(values)
    size = np.abs(values).max(0)
    np.testing.assert_array_less(np.abs(total.mean - mean), 1e-14 * size)
    # a deviation has lost the digits that it shares with the mean
    np.testing.assert_array_less(np.abs(total.mean_and_spread()[1] - spread), 1e-14 * size)
    np.testing.assert_array_equal([total.low, total.high], [values.min(0), values.max(0)])
    np.testing.assert_array_equal(total.count, n)


def test_many_blocks_lose_no_digits():
    values = np.random.default_rng(0).normal(size=(2**14, 1)) + 1e7
    total = running(values, np.arange(4, len(values), 4))
    mean, spread = exact(values)
    assert total.mean == pytest.approx(mean, rel=4e-16)
    assert total.deviation == pytest.approx(spread, rel=1e-11)


@pytest.mark.parametrize("columns", [1, 3])
def test_one_block_is_exact_to_rounding(columns):
    values = np.random.default_rng(0).normal(3, 2, (500, columns))
    found = Moments.of(list(values.T)).mean_and_spread()
    for mine, reference in zip(found, exact(values), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=2e-15)


def test_the_largest_numbers_do_not_overflow():
    values = np.array([[8e307], [-8e307], [8e307], [8e307]])
    total = running(values, [1, 2])
    mean, spread = exact(values)
    np.testing.assert_allclose(total.mean, mean, rtol=1e-15)
    np.testing.assert_allclose(total.deviation, spread, rtol=1e-15)


def test_indicators_and_constants():
    columns = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]], dtype=float)
    found = Moments.of_indicators([2, 0, 3], 3)
    for mine, reference in zip(found.mean_and_spread(), exact(columns), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-15)
    assert found.all_equal(np.array([1.0, 0.0, 1.0])).tolist() == [False, True, True]
    filled = Moments.of([np.array([1.0, 2.0])]) + Moments.of_constants(np.array([5.0]), np.array([2.0]))
    np.testing.assert_allclose(filled.mean, [3.25])
    np.testing.assert_allclose(filled.deviation, np.std([1, 2, 5, 5]))
    nothing = Moments.of([np.array([1.0, 2.0])]) + Moments.of_constants(np.array([5.0]), np.array([0.0]))
    assert nothing.high.tolist() == [2.0]
