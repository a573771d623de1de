"""Values beyond what single precision distinguishes: one far from all others, and targets of extreme size."""

import numpy as np
import polars as pl
import pytest

from torchplug.data.tabular import TabularData
from torchplug.preprocessing import DataRequirements


def notes_of(frame, path, stream, **options):
    frame.write_parquet(path / "t.parquet")
    data = TabularData(path / "t.parquet", "y", split=[1, 0, 0], stream=stream, **options)
    data.prepare(DataRequirements(kind="regression", loss="mse"))
    return [note for note in data.notes if "so far from all other values" in note]


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=3000)


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
@pytest.mark.parametrize("far", [1e300, -1e9])
def test_a_value_far_from_all_others_is_noted_with_its_row(tmp_path, values, stream, far):
    x = values.copy()
    x[2345] = far
    notes = notes_of(pl.DataFrame({"z": values, "x": x, "y": values}), tmp_path, stream)
    assert len(notes) == 1
    assert f"x ({far:g} in row 2346);" in notes[0]


@pytest.mark.parametrize("scale", ["robust", "quantile"])
def test_beside_a_bounded_value_others_differ(tmp_path, values, scale):
    x = values.copy()
    x[2345] = 1e300
    assert notes_of(pl.DataFrame({"x": x, "y": values}), tmp_path, stream=False, scale=scale) == []


@pytest.mark.parametrize("stream", [False, True], ids=["memory", "streamed"])
def test_ordinary_columns_are_not_noted(tmp_path, values, stream):
    rare = np.zeros(3000)
    rare[7] = 1e9
    frame = pl.DataFrame(
        {
            "constant": np.ones(3000),
            "rare": rare,
            "cauchy": np.random.default_rng(1).standard_cauchy(3000),
            "income": np.exp(2 * values) * 1e4,
            "gaps": [None if i % 3 else float(i) for i in range(3000)],
            "counts": np.arange(3000) % 7,
            "y": values,
        }
    )
    assert notes_of(frame, tmp_path, stream) == []


@pytest.mark.parametrize("factor", [1e300, 1e-300])
def test_units_are_no_reason_for_a_note(tmp_path, values, factor):
    assert notes_of(pl.DataFrame({"x": values * factor, "y": values}), tmp_path, stream=False) == []
