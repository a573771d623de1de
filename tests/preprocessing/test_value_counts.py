import polars as pl
import pytest

from torchplug.preprocessing import value_counts
from torchplug.preprocessing.value_counts import DistinctValues, ValueCounts

VALUES = [2.0, 1.0, 2.0, 1.0, 3.0, 4.0, 2.0, 1.0]


def counted(*, bounded):
    counts = ValueCounts(bounded=bounded)
    for start in range(0, len(VALUES), 3):
        counts.update(pl.Series("a", VALUES[start : start + 3]))
    return counts


def test_values_are_counted_over_blocks():
    counts = counted(bounded=False)
    assert counts.counts == {1.0: 3, 2.0: 3, 3.0: 1, 4.0: 1}
    assert (counts.rows, counts.complete) == (8, True)
    assert counts.most_frequent() == 1.0, "the smallest of equally frequent ones"


def test_a_bound_drops_the_rarest_until_they_are_counted_again(monkeypatch):
    monkeypatch.setattr(value_counts, "MOST_VALUES", 3)
    counts = counted(bounded=True)
    assert not counts.complete
    held = set(counts.counts)
    assert counts.counts != {value: VALUES.count(value) for value in held}
    counts.recount(pl.Series("a", VALUES[start : start + 2]) for start in range(0, len(VALUES), 2))
    assert counts.counts == {value: VALUES.count(value) for value in held}
    assert counts.rows == 8


@pytest.mark.parametrize("bounded", [True, False])
def test_distinct_values_beyond_the_bound_leave_the_extremes(monkeypatch, bounded):
    monkeypatch.setattr(value_counts, "MOST_VALUES", 4)
    seen = DistinctValues(bounded=bounded)
    for value in (5.0, 9.0, 1.0, 4.0, 3.0, 7.0):
        seen.update(pl.Series("y", [value, value]))
    assert seen.complete is not bounded
    assert seen.rows == 12
    assert (seen.values.min(), seen.values.max()) == (1.0, 9.0)
    assert len(seen.values) == (5 if bounded else 6)
