import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug.data import statistics
from torchplug.data.statistics import DistinctValues, Moments, RunningMoments, ValueCounts
from torchplug.errors import DataError
from torchplug.preprocessing.statistics import mean_and_spread
from torchplug.preprocessing.target import read_target


def running(values, cuts):
    """The moments of columns (n, d) seen in pieces."""
    total = RunningMoments()
    for piece in np.split(values, cuts):
        total.add(Moments.of(list(piece.T)))
    return total.total()


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 200), st.lists(st.integers(0, 200), max_size=20), st.integers(0, 2**32 - 1))
def test_pieces_have_the_moments_of_the_whole(n, cuts, seed):
    generator = np.random.default_rng(seed)
    # far from zero, of very different sizes, constant
    values = generator.normal(size=(n, 4)) * [1.0, 1e-6, 1e160, 0.0] + [1e3, 1e3, 0.0, 0.1]
    total = running(values, sorted(min(cut, n) for cut in cuts))
    mean, spread = mean_and_spread(values)
    size = np.abs(values).max(0)
    np.testing.assert_array_less(np.abs(total.mean - mean), 1e-14 * size)
    # a deviation has lost the digits that it shares with the mean
    np.testing.assert_array_less(np.abs(total.mean_and_spread()[1] - spread), 1e-14 * size)
    np.testing.assert_array_equal([total.low, total.high], [values.min(0), values.max(0)])
    np.testing.assert_array_equal(total.count, n)


def test_many_pieces_lose_no_digits():
    values = np.random.default_rng(0).normal(size=(2**14, 1)) + 1e7
    exact = np.longdouble(values[:, 0])
    total = running(values, np.arange(4, len(values), 4))
    assert total.mean[0] == pytest.approx(float(exact.mean()), rel=4e-16)
    assert total.deviation[0] == pytest.approx(float(exact.std()), rel=1e-11)


def test_the_largest_numbers_do_not_overflow():
    values = np.array([[8e307], [-8e307], [8e307], [8e307]])
    total = running(values, [1, 2])
    mean, spread = mean_and_spread(values)
    np.testing.assert_allclose(total.mean, mean, rtol=1e-15)
    np.testing.assert_allclose(total.deviation, spread, rtol=1e-15)


def test_indicators_and_constants():
    columns = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1]], dtype=float)
    found = Moments.of_indicators([2, 0, 3], 3)
    for mine, reference in zip(found.mean_and_spread(), mean_and_spread(columns), strict=True):
        np.testing.assert_allclose(mine, reference, rtol=1e-15)
    assert found.all_equal(np.array([1.0, 0.0, 1.0])).tolist() == [False, True, True]
    filled = Moments.of([np.array([1.0, 2.0])]) + Moments.of_constants(np.array([5.0]), np.array([2.0]))
    np.testing.assert_allclose(filled.mean, [3.25])
    np.testing.assert_allclose(filled.deviation, np.std([1, 2, 5, 5]))
    nothing = Moments.of([np.array([1.0, 2.0])]) + Moments.of_constants(np.array([5.0]), np.array([0.0]))
    assert nothing.high.tolist() == [2.0]


def test_values_are_counted_up_to_a_limit(monkeypatch):
    monkeypatch.setattr(statistics, "MOST_VALUES", 3)
    counts = ValueCounts("a")
    counts.add(pl.Series("a", [2.0, 1.0, None, 2.0]), "here", "leave it")
    counts.add(pl.Series("a", [1.0, 3.0]), "here", "leave it")
    assert counts.counts == {1.0: 2, 2.0: 2, 3.0: 1}
    assert counts.most_frequent() == 1.0
    with pytest.raises(DataError, match="here: column 'a' has more than 3 different values: leave it"):
        counts.add(pl.Series("a", [4.0]), "here", "leave it")


@pytest.mark.parametrize("n", [10, 40, 400])
@pytest.mark.parametrize("distinct", [2, 20, 25, 60])
def test_a_digest_is_judged_as_the_column_is(n, distinct):
    column = pl.Series("y", np.arange(n) % distinct * 1.0)
    seen = DistinctValues()
    for start in range(0, n, 7):
        seen.add(column[start : start + 7])

    def labels(series):
        try:
            return read_target(series.to_frame(), ["y"], "multiclass", "", "here").labels
        except DataError as error:
            return str(error)

    assert labels(seen.digest()) == labels(column)


def test_too_many_values_leave_the_extremes(monkeypatch):
    monkeypatch.setattr(statistics, "MOST_VALUES", 4)
    seen = DistinctValues()
    for value in (5.0, 9.0, 1.0, 4.0, 3.0, 7.0):
        seen.add(pl.Series("y", [value]))
    assert not seen.few
    assert seen.rows == 6
    assert (seen.values.min(), seen.values.max()) == (1.0, 9.0)
    assert len(seen.digest()) == 5
