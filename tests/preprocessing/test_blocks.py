"""Rows that come a block at a time are learned from and encoded as if they came together."""

import numpy as np
import polars as pl
import pytest
import torch

from preprocessing_fits import fit
from torchplug.data.in_memory_fit import TrainingColumns
from torchplug.data.table import MemoryTable, UsedRows
from torchplug.errors import DataError
from torchplug.preprocessing import Preprocessing, blocks, read_target
from torchplug.preprocessing.statistics import Statistics
from torchplug.preprocessing.target import TargetCoding

N = 500


def statistics(values, size, **options):
    return Statistics.of(lambda: (values[i : i + size].copy() for i in range(0, len(values), size)), **options)


@pytest.mark.parametrize("columns", [2, 3, 8, 33])
@pytest.mark.parametrize("size", [1, 7, 64, N - 1, N])
def test_blocks_give_the_bits_of_one_pass(size, columns):
    values = np.random.default_rng(columns).normal(3, 2, (N, columns))
    values[:, 1] = 0.1
    found = statistics(values, size)
    deviation = values - values.mean(axis=0)
    unit = np.abs(deviation).max(axis=0)
    spread = unit * np.sqrt(np.mean((deviation / unit) ** 2, axis=0))
    varied = np.arange(columns) != 1
    np.testing.assert_array_equal(found.mean[varied], values.mean(axis=0)[varied])
    np.testing.assert_array_equal(found.spread[varied], spread[varied])
    np.testing.assert_allclose(found.spread[varied], values.std(axis=0)[varied], rtol=1e-14)
    assert (found.mean[1], found.spread[1]) == (0.1, 1.0)
    np.testing.assert_array_equal(found.low, values.min(axis=0))
    np.testing.assert_array_equal(found.high, values.max(axis=0))


@pytest.mark.parametrize("size", [1, 7, 64, N])
def test_one_column_is_exact_to_rounding(size):
    values = np.random.default_rng(0).normal(3, 2, (N, 1))
    found = statistics(values, size)
    exact = values.astype(np.longdouble)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0).astype(float), rtol=2e-15)
    np.testing.assert_allclose(found.spread, exact.std(axis=0).astype(float), rtol=2e-15)


def test_without_standardization_extremes_are_known_all_the_same():
    values = np.random.default_rng(0).normal(size=(N, 3))
    found = statistics(values, 7, standardize=False)
    assert found.mean.tolist() == [0.0] * 3
    assert found.spread.tolist() == [1.0] * 3
    np.testing.assert_array_equal(found.high, values.max(axis=0))
    assert Statistics.of(lambda: [np.zeros((4, 2))], standardize=False).all_equal(np.zeros(2)).all()


# ---------------------------------------------------------------------- preprocessing


@pytest.fixture
def frame():
    rng = np.random.default_rng(5)
    numbers = {"a": rng.normal(50, 1e-3, N), "b": rng.integers(-9, 9, N), "c": rng.normal(size=N).astype(np.float32)}
    towns = rng.choice(["A", "B", "C", "Ü"], N)
    flat = {"flag": rng.uniform(size=N) < 0.3, "flat": np.full(N, 3.7)}
    return pl.DataFrame({**numbers, **flat, "town": towns, "y": rng.normal(size=N)})


@pytest.mark.parametrize(
    "options", [{}, {"center": False}, {"standardize": False}, {"reference": True, "max_categories": 3}]
)
@pytest.mark.parametrize("size", [1, 13, 499])
def test_preprocessing_does_not_depend_on_blocks(frame, size, options, monkeypatch):
    expected = fit(frame, **options)
    whole = expected.features(frame)
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", size * 16)
    assert fit(frame, **options) == expected
    assert torch.equal(expected.features(frame), whole)


@pytest.mark.parametrize("size", [1, 13])
def test_numbers_are_standardized_by_the_plain_formula_across_blocks(frame, size, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", size * 4)
    numbers = frame.select("a", "b", "c", "y")
    raw = numbers.drop("y").cast(pl.Float64).to_numpy()
    features = fit(numbers).features(numbers).numpy()
    np.testing.assert_allclose(features, (raw - raw.mean(axis=0)) / raw.std(axis=0), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("impute", ["auto", "mean", "median", "most_frequent"])
def test_gaps_are_filled_alike_in_every_block(frame, impute, monkeypatch):
    row = pl.int_range(N)
    gaps = frame.with_columns(
        a=pl.when(row % 7 == 0).then(None).otherwise(pl.col("a")),
        c=pl.when(row % 5 == 0).then(float("nan")).otherwise(pl.col("c")),
        town=pl.when(row % 3 == 0).then(None).otherwise(pl.col("town")),
    )
    expected = fit(gaps, impute=impute)
    whole = expected.features(gaps)
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 64)
    assert fit(gaps, impute=impute) == expected
    assert torch.equal(expected.features(gaps), whole)


def test_messages_count_over_all_blocks(frame, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 64)
    fitted, row = fit(frame, impute="error", handle_unknown="error"), pl.int_range(N)
    gaps = frame.with_columns(
        a=pl.when(row % 100 == 90).then(None).otherwise(pl.col("a")),
        town=pl.when(row == 400).then(None).otherwise(pl.col("town")),
    )
    with pytest.raises(DataError, match=r"a \(5, first in row 91\), town \(1, first in row 401\)") as caught:
        fitted.features(gaps)
    assert caught.value.__suppress_context__, "the block's own count is no message"
    infinite = frame.with_columns(c=pl.when(row % 200 == 150).then(float("inf")).otherwise(pl.col("c")))
    with pytest.raises(DataError, match="column 'c' has 2 infinite values, first in row 151"):
        fitted.features(infinite)
    unknown = frame.with_columns(town=pl.when(row == 321).then(pl.lit("Z")).otherwise(pl.col("town")))
    with pytest.raises(DataError, match="category 'Z' in row 322"):
        fitted.features(unknown)
    with pytest.raises(DataError, match="category 'Z' in row 1322"):
        fitted.features(unknown, rows=np.arange(N) + 1000)


def test_block_sizes_are_powers_of_two():
    assert [blocks.rows_of(100, columns) for columns in (1, 3, 25, 99, 1000)] == [64, 32, 4, 1, 1]
    assert list(blocks.intervals(10, 4)) == [(0, 4), (4, 8), (8, 10)]
    assert list(blocks.intervals(0, 4)) == []


def test_many_levels_cost_the_fit_no_small_blocks_and_no_second_pass(monkeypatch):
    sizes = []

    class Watched(TrainingColumns):
        def blocks(self, size):
            sizes.append(size)
            return super().blocks(size)

    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 1000)
    frame = pl.DataFrame({"code": [f"c{i % 100}" for i in range(N)], "y": np.arange(N, dtype=float)})
    coding = TargetCoding.fit(
        frame, read_target(frame, ["y"], "regression", "mse", "t"), standardize=False, center=True, where="t"
    )
    fitted = Preprocessing.fit(
        Watched(UsedRows(MemoryTable(frame, {}), "t"), ["code"], np.arange(N), complete=True), coding
    )
    assert len(fitted.feature_names) == 100
    assert sizes == [512]
