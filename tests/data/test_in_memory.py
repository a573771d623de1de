"""Parts in memory are made of a table a block of rows at a time, wherever it lies."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from torchplug.data.parquet import ParquetTable
from torchplug.data.table import MemoryTable, UsedRows, open_table
from torchplug.data.tabular import TabularData
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements, blocks

N = 203
SPLITS = ("train", "validation", "test")
REGRESSION = DataRequirements("regression", "mse", standardize_target=True)
FULL_SET = DataRequirements("regression", "mse", standardize_target=True, full_batch=True)
X = np.random.default_rng(0).normal(50, 1e-2, (N, 5))
X[:, 4] = np.arange(N)
Y = np.random.default_rng(1).normal(100, 10, N)


def sources(path):
    """The same numbers, wherever they may lie."""
    frame = pl.DataFrame([*(pl.Series(f"x{j}", X[:, j]) for j in range(5)), pl.Series("y", Y)])
    frame.write_parquet(path / "t.parquet", row_group_size=50)
    frame.write_csv(path / "t.csv")
    return {
        "polars": frame,
        "chunks": pl.concat([frame[:90], frame[90:]], rechunk=False),
        "rows": (X, Y),
        "columns": (np.asfortranarray(X), Y),
        "tensors": (torch.from_numpy(X), torch.from_numpy(Y)),
        "pandas": frame.to_pandas(),
        "parquet": path / "t.parquet",
        "csv": path / "t.csv",
    }


KINDS = ["polars", "chunks", "rows", "columns", "tensors", "pandas", "parquet", "csv"]


def prepared(source, request=REGRESSION, **options):
    data = TabularData(source, "y", **options)
    data.prepare(request)
    return data


def rows_of(data, split):
    return data.frame_of(split)["x4"].to_numpy().astype(int)


def standardized(values, train):
    """By the plain formula in extended precision."""
    wide = train.astype(np.longdouble)
    return ((values - wide.mean(axis=0)) / wide.std(axis=0)).astype(float)


@pytest.mark.parametrize("numbers", [1, 64, 2**20])
@pytest.mark.parametrize("kind", KINDS)
def test_splits_hold_their_rows_by_the_plain_formula(kind, numbers, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", numbers)
    data = prepared(sources(tmp_path)[kind], FULL_SET)
    drawn = [rows_of(data, split) for split in SPLITS]
    assert sorted(np.concatenate(drawn)) == list(range(N))
    for split, rows in zip(SPLITS, drawn, strict=True):
        features, target, weight = data.rows_of(split).read(0, len(rows))
        # a value of 50 ± 0.01 has lost 1e-12 of its deviation to rounding
        np.testing.assert_allclose(features, standardized(X[rows], X[drawn[0]]), rtol=1e-9, atol=2e-12)
        np.testing.assert_allclose(target[:, 0], standardized(Y[rows], Y[drawn[0]]), rtol=1e-12, atol=1e-14)
        assert torch.equal(weight, torch.ones(len(rows), dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_neither_blocks_nor_the_source_change_a_bit(kind, tmp_path, monkeypatch):
    expected = prepared(sources(tmp_path)["polars"])
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 64)
    data = prepared(sources(tmp_path)[kind])
    assert data.preprocessing == expected.preprocessing
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        for batch, other in zip(getattr(data, name)(), getattr(expected, name)(), strict=True):
            assert all(torch.equal(mine, theirs) for mine, theirs in zip(batch[:3], other[:3], strict=True))
    assert data.fingerprint == expected.fingerprint
    assert data.frame_of("test").equals(expected.frame_of("test"))


def test_features_are_encoded_anew_for_another_precision(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 64)
    double, single = prepared((X, Y), FULL_SET).rows_of("train"), prepared((X, Y)).rows_of("train")
    exact = double.read(0, double.samples).features
    for _ in range(2):  # back and forth: one precision is kept at a time
        (batch,) = single.loader(torch.float32, batch_size="full")
        assert batch.features.dtype == torch.float32
        assert torch.equal(batch.features, exact.float())
        assert torch.equal(single.read(0, single.samples).features, exact)


@pytest.mark.parametrize("numbers", [1, 64, 2**20])
def test_rows_that_are_dropped_leave_no_trace(numbers, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", numbers)
    gaps = X.copy()
    gaps[[0, 50, 51, 52, 53, 54, 55, 56, 200], [1, 0, 0, 0, 0, 0, 0, 0, 3]] = np.nan
    data = prepared((gaps, Y), FULL_SET, impute="drop")
    left = ~np.isnan(gaps).any(axis=1)
    expected = prepared((X[left], Y[left]), FULL_SET)
    assert data.preprocessing == expected.preprocessing
    for split in SPLITS:
        assert rows_of(data, split).tolist() == rows_of(expected, split).tolist()
        rows = data.sizes[split]
        assert torch.equal(data.rows_of(split).read(0, rows).features, expected.rows_of(split).read(0, rows).features)


def test_messages_count_over_all_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 64)
    gaps = X.copy()
    gaps[[40, 100, 150], 1] = np.nan
    gaps[7, 2] = np.nan
    with pytest.raises(DataError, match=r"x1 \(3, first in row 41\), x2 \(1, first in row 8\): .*impute"):
        prepared((gaps, Y), impute="error")
    carried = DataRequirements("regression", preprocessing=prepared((X, Y), impute="error").preprocessing)
    with pytest.raises(DataError, match=r"x1 \(3, first in row 41\), x2 \(1, first in row 8\): .*--data.impute error"):
        prepared((gaps, Y), carried)
    infinite = np.where(np.isnan(gaps), np.inf, gaps)
    for impute in ("auto", "error", "mean", "drop"):
        with pytest.raises(DataError, match="column 'x1' has 3 infinite values, first in row 41"):
            prepared((infinite, Y), impute=impute)


# ---------------------------------------------------------------------- tables


@pytest.mark.parametrize("kind", [lambda X: (X, Y), torch.from_numpy, lambda X: pd.DataFrame(X, copy=False)])
def test_tables_in_memory_are_not_copied(kind):
    """A later change of the values is seen, which is why the user is asked for none."""
    values = X.copy()
    table = MemoryTable(kind(values), {})
    values[7] += 1.0
    columns = table.head.columns[:5]
    assert table.read(7, 8, columns).row(0) == tuple(values[7])


@pytest.mark.parametrize("places", [None, np.array([3, 4, 5, 90, 91, 202])])
@pytest.mark.parametrize("kind", ["polars", "rows", "parquet"])
def test_blocks_hold_the_used_rows_in_order(kind, places, tmp_path):
    source = sources(tmp_path)[kind]
    table = ParquetTable(str(source)) if kind == "parquet" else MemoryTable(source, {})
    used = UsedRows(table, "t", places)
    expected = np.arange(N) if places is None else places
    found, position = [], 0
    for frame, first, rows in used.blocks(["x4", "x1"], 16):
        assert first == position
        assert 0 < frame.height == len(rows) <= 16
        assert frame["x4"].to_list() == rows.tolist()
        np.testing.assert_array_equal(frame["x1"], X[rows, 1])
        found += rows.tolist()
        position += frame.height
    assert found == expected.tolist()
    assert next(used.columns(["x4"])).to_list() == found
    assert used.select(["x4"], np.array([1, 4], dtype=np.int32))["x4"].to_list() == [found[1], found[4]]


def test_large_parquet_files_stay_on_disk(tmp_path, monkeypatch):
    path = sources(tmp_path)["parquet"]
    assert isinstance(open_table(path), MemoryTable)
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 64)
    assert isinstance(open_table(path), ParquetTable)
    assert isinstance(open_table(str(path)), ParquetTable)
    assert isinstance(open_table("iris"), MemoryTable)


def test_a_file_that_has_changed_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_NUMBERS", 64)
    path = sources(tmp_path)["parquet"]
    data = prepared(path)
    pl.read_parquet(path).reverse().head(150).write_parquet(path)
    with pytest.raises(DataError, match="has changed since it was first read"):
        data.frame_of("train")
    assert prepared(path).sizes["train"] == 90
    path.unlink()
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        data.frame_of("train")
