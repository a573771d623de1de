"""One table as CSV, Parquet, pandas and polars, in memory and streamed: the same features with the same values."""

import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from torchplug.data.tabular import TabularData
from torchplug.preprocessing import DataRequirements

ROWS = 300


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    days = [datetime.datetime(2020, 1, 1) + datetime.timedelta(days=int(day)) for day in rng.integers(0, 500, ROWS)]
    frame = pd.DataFrame(
        {
            "number": rng.normal(size=ROWS),
            "count": rng.integers(0, 5, ROWS),
            "kind": pd.Categorical(rng.integers(0, 4, ROWS)),
            "code": rng.choice(["007", "012", "113"], ROWS),
            "day": days,
            "time": pd.to_datetime(days) + pd.to_timedelta(rng.integers(0, 86400, ROWS), unit="s"),
            "empty": np.full(ROWS, np.nan),
            "gap": np.where(np.arange(ROWS) % 7 == 0, np.nan, np.arange(ROWS) % 13),
            "y": rng.normal(size=ROWS),
        }
    )

    def made(kind):
        if kind == "pandas":
            return frame
        if kind == "csv":
            frame.to_csv(tmp_path / "t.csv")
            return tmp_path / "t.csv"
        # pandas writes an index that is no mere count
        frame.set_index(pd.Index(rng.permutation(ROWS))).to_parquet(tmp_path / "t.parquet")
        if kind == "polars":
            return pl.read_parquet(tmp_path / "t.parquet").drop("__index_level_0__")
        return tmp_path / "t.parquet"

    return made


@pytest.mark.parametrize(
    ("kind", "stream"), [("csv", False), ("parquet", False), ("parquet", True), ("polars", False), ("pandas", False)]
)
def test_every_source_gives_the_same_features(source, kind, stream):
    # what CSV and a polars frame of plain numbers cannot say
    said = {} if kind in ("pandas", "parquet") else {"categories": ["kind"]}
    data = TabularData(source(kind), "y", split=[1, 0, 0], stream=stream, impute="mean", **said)
    data.prepare(DataRequirements(kind="regression", loss="mse"))
    reference = TabularData(source("pandas"), "y", split=[1, 0, 0], impute="mean")
    reference.prepare(DataRequirements(kind="regression", loss="mse"))
    assert data.preprocessing.feature_names == reference.preprocessing.feature_names
    assert "empty" not in data.preprocessing.columns
    assert any("empty (no value in any row)" in note for note in data.notes)
    found, wanted = (d.training_set.read(0, ROWS).features.numpy() for d in (data, reference))
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)
