"""Dates as features."""

from datetime import date

import numpy as np
import pandas
import polars as pl
import pytest

from preprocessing_fits import fit
from torchplug.data import parquet
from torchplug.data.tabular import TabularData
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements, Preprocessing

DAYS = pl.date_range(pl.date(2024, 1, 5), pl.date(2024, 3, 13), eager=True)
REQUEST = DataRequirements("regression", "mse", full_batch=True)


def table(dates):
    return pl.DataFrame({"d": dates, "y": np.random.default_rng(0).normal(size=len(dates))})


def test_a_date_is_the_days_since_the_first():
    found = fit(table(DAYS), scale="none", center=False)
    assert found.feature_names == ["d"]
    np.testing.assert_array_equal(found.features(table(DAYS))[:, 0], np.arange(len(DAYS)))
    assert found.features(table(pl.Series([date(2024, 1, 2)]))).item() == -3.0


def test_times_are_parts_of_days_and_of_greenwich():
    instants = pl.Series(["2024-01-05 06:00", "2024-01-06 18:00"]).str.to_datetime()
    found = fit(table(instants), scale="none", center=False)
    assert found.features(table(instants))[:, 0].tolist() == [0.25, 1.75]
    zoned = instants.dt.replace_time_zone("UTC").dt.convert_time_zone("America/New_York")
    assert found.features(table(zoned))[:, 0].tolist() == [0.25, 1.75]


def test_times_of_the_day_are_hours():
    times = pl.Series(["06:30", "18:00"]).str.to_time("%H:%M")
    found = fit(table(times), scale="none", center=False)
    assert found.features(table(times))[:, 0].tolist() == [6.5, 18.0]
    with pytest.raises(DataError, match="column 'd' has type Date, and times of the day are expected"):
        found.features(table(DAYS))


def test_cycles_are_sines_and_cosines():
    instants = pl.Series(["2024-01-05 06:00", "2024-07-06 18:00"]).str.to_datetime()
    found = fit(table(instants), scale="none", center=False, dates="cyclic")
    waves = [f"d={cycle}_{wave}" for cycle in ("year", "week", "day") for wave in ("sin", "cos")]
    assert found.feature_names == waves
    t = instants.to_numpy().astype("datetime64[s]").astype(float) / 86400
    angles = 2 * np.pi * t[:, None] / [365.2425, 7.0, 1.0]
    expected = np.stack([np.sin(angles), np.cos(angles)], axis=2).reshape(2, 6)
    np.testing.assert_allclose(found.features(table(instants)), expected, atol=1e-9)


@pytest.mark.parametrize("dates", ["number", "cyclic"])
def test_gaps_are_filled_in_and_marked(dates):
    gappy = pl.concat([DAYS, pl.Series([None, None], dtype=pl.Date)])
    found = fit(table(gappy), dates=dates)
    assert found.feature_names[-1] == "d=missing"
    features = found.features(table(gappy))
    assert features.isfinite().all()
    restored = Preprocessing.from_state(found.state())
    np.testing.assert_array_equal(restored.features(table(gappy)), features)


@pytest.fixture(params=["csv", "parquet", "pandas", "polars", "streamed"])
def source(request, tmp_path, monkeypatch):
    """Rows with dates in each kind of source."""

    def given(frame):
        if request.param == "csv":
            frame.write_csv(tmp_path / "t.csv")
            return {"source": tmp_path / "t.csv"}
        if request.param in ("parquet", "streamed"):
            frame.write_parquet(tmp_path / "t.parquet", row_group_size=20)
            monkeypatch.setattr(parquet, "_FILE_BLOCK_NUMBERS", 2**6)
            return {"source": tmp_path / "t.parquet", "stream": request.param == "streamed"}
        if request.param == "polars":
            return {"source": frame}
        columns = {series.name: series.to_list() for series in frame}
        return {"source": pandas.DataFrame(columns).assign(d=pandas.to_datetime(columns["d"]))}

    return given


@pytest.mark.parametrize("dates", ["number", "cyclic"])
def test_all_sources_agree(source, dates):
    frame = table(DAYS).with_row_index("i").with_columns(d=pl.when(pl.col("i") % 9 == 4).then(None).otherwise("d"))
    options = {"split": [1, 0, 0], "impute": "mean", "scale": "standard", "dates": dates}
    reference = TabularData(frame.drop("i"), "y", **options)
    data = TabularData(**source(frame.drop("i")), target="y", **options)
    for prepared in (reference, data):
        prepared.prepare(REQUEST)
    if dates == "number":
        assert "d: days since 2024-01-05 (--data.dates)" in data.notes
        assert data.preprocessing.feature_names == ["d"]
    found, expected = (each.training_set.read(0, len(frame)).features for each in (data, reference))
    # pandas has dates with times only: its cycles of the day are constant
    np.testing.assert_allclose(found[:, : expected.shape[1]], expected, atol=1e-9)
