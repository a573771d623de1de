"""Rows that are encoded in blocks are encoded as the whole table would be."""

import numpy as np
import polars as pl
import pytest
import torch

from preprocessing_fits import fit
from torchplug.errors import DataError
from torchplug.preprocessing import blocks

N = 500


@pytest.fixture
def frame():
    rng = np.random.default_rng(5)
    numbers = {"a": rng.normal(50, 1e-3, N), "b": rng.integers(-9, 9, N), "c": rng.normal(size=N).astype(np.float32)}
    towns = rng.choice(["A", "B", "C", "Ü"], N)
    flat = {"flag": rng.uniform(size=N) < 0.3, "flat": np.full(N, 3.7)}
    return pl.DataFrame({**numbers, **flat, "town": towns, "y": rng.normal(size=N)})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"center": False},
        {"scale": "none"},
        {"scale": "robust"},
        {"scale": "quantile"},
        {"reference": True, "max_categories": 3},
    ],
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
