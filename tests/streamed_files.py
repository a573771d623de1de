"""A file with every kind of column, that several tests of streaming share."""

import numpy as np
import polars as pl

from torchplug import TabularData
from torchplug.preprocessing import DataRequirements

SPLITS = ("train", "validation", "test")
N = 400
REGRESSION = DataRequirements("regression", "mse", full_batch=True)
SCALED = DataRequirements("regression", "mse", standardize_target=True, reference=True, full_batch=True)
UNCENTERED = DataRequirements("regression", "mse", standardize_target=True, center=False, full_batch=True)
CLASSES = DataRequirements("multiclass", "cross_entropy", full_batch=True)
BINARY = DataRequirements("binary", "bce", full_batch=True)
COUNT = DataRequirements("count", "poisson_nll", full_batch=True)
FEATURES = ["a", "b", "flag", "town", "street", "flat"]


def mixed_table():
    """Every kind of feature, target and weight; `id` counts the rows from 0."""
    rng = np.random.default_rng(0)
    half = rng.uniform(size=N)
    return pl.DataFrame(
        {
            "id": np.arange(N),
            "a": rng.normal(size=N) * 1e-3 + 50,
            "b": rng.integers(0, 5, N),
            "flag": rng.uniform(size=N) < 0.3,
            "town": rng.choice(["A", "B", "C", "Ü"], N),
            "street": pl.Series(rng.choice(["x", "y", "z"], N)).cast(pl.Categorical),
            "flat": np.full(N, 3.5),
            "w": rng.uniform(1, 5, N),
            "y": rng.normal(size=N) * 10 + 100,
            "z": rng.normal(size=N),
            "label": rng.choice(["no", "yes", "maybe"], N),
            "digit": rng.integers(0, 3, N),
            "yes": rng.uniform(size=N) < 0.4,
            "p": half,
            "q": 1 - half,
            "n": rng.poisson(2.0, N),
            "split": rng.choice(SPLITS, N, p=[0.6, 0.25, 0.15]),
        }
    )


def written(table, path, rows=37):
    """The table as a file with row groups of so many rows."""
    table.write_parquet(path / "table.parquet", row_group_size=rows)
    return path / "table.parquet"


def prepared(source, request, **options):
    """Data read as a module with this request would have them."""
    data = TabularData(source, **{"features": FEATURES, **options})
    data.prepare(request)
    return data
