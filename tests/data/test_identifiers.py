"""Text that differs in nearly every row is no feature unless it is named."""

import numpy as np
import polars as pl
import pytest

from torchplug.data import parquet
from torchplug.data.tabular import TabularData
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements, value_counts
from torchplug.preprocessing.value_counts import DistinctCount

REQUEST = DataRequirements("regression", "mse", full_batch=True)
N = 200


def table(different, n=N, gaps=0):
    """Text of which so many values differ, the rest repeating the first."""
    name = [f"k{i}" if i < different else "k0" for i in range(n)]
    rng = np.random.default_rng(0)
    return pl.DataFrame({"name": [*name[gaps:], *[None] * gaps], "a": rng.normal(size=n), "y": rng.normal(size=n)})


def columns(source, **options):
    data = TabularData(source, "y", **options)
    data.prepare(REQUEST)
    return data.preprocessing.columns, data.notes


@pytest.fixture(params=["memory", "streamed"])
def prepared(request, tmp_path, monkeypatch):
    """The feature columns of a table and the notes on it, in memory or streamed."""

    def read(frame, **options):
        if request.param == "memory":
            return columns(frame, **options)
        monkeypatch.setattr(parquet, "_FILE_BLOCK_NUMBERS", 2**7)
        frame.write_parquet(tmp_path / "t.parquet", row_group_size=50)
        return columns(tmp_path / "t.parquet", stream=True, **options)

    return read


@pytest.mark.parametrize(
    ("frame", "kept"),
    [
        (table(N), False),
        (table(191), False),
        (table(190), True),
        (table(N).with_columns(pl.col("name").cast(pl.Categorical)), False),
        (table(N, gaps=100), False),
        (table(N).with_columns(name=pl.int_range(N)), True),
        (table(20, 20), False),
    ],
)
def test_text_is_left_out_if_more_than_95_percent_of_its_values_differ(prepared, frame, kept):
    found, notes = prepared(frame, split=[1, 0, 0])
    assert found == (["name", "a"] if kept else ["a"])
    note = "left out: name (text that differs in nearly every row); --data.features keeps a column that it names"
    assert (note in notes) != kept


def test_few_values_say_nothing():
    assert columns(table(19, 19))[0] == ["name", "a"]


def test_a_column_that_is_named_is_kept(prepared):
    found, notes = prepared(table(N), features=["a", "name"])
    assert found == ["a", "name"]
    assert not any("left out" in note for note in notes)


def test_a_table_of_names_is_refused_with_the_remedy(prepared):
    with pytest.raises(DataError, match=r"no column is left.*name \(text that differs.*--data\.features keeps"):
        prepared(table(N).select("name", "y"))


def test_a_streamed_column_of_names_may_have_any_number_of_them(prepared, monkeypatch):
    monkeypatch.setattr(value_counts, "MOST_VALUES", 50)
    assert prepared(table(N))[0] == ["a"]


@pytest.mark.parametrize("different", [10, 60_000, 400_000])
def test_different_values_are_counted_by_few_hashes(different):
    count = DistinctCount()
    values = np.arange(500_000) % different
    for start in range(0, len(values), 70_000):
        count.add(pl.Series(values[start : start + 70_000]).cast(pl.String))
    assert count.values == len(values)
    # four standard errors of 2^16 hashes
    tolerance = 0 if different < value_counts.MOST_VALUES else 4 / np.sqrt(value_counts.MOST_VALUES)
    assert count.distinct == pytest.approx(different, rel=tolerance, abs=0)
