"""Learning curves beside separate fits, and the power law beside known ones."""

import numpy as np
import polars as pl
import pytest
from sklearn.linear_model import LinearRegression

import torchplug
from many.interrupting import interrupted_after
from small_fits import regression
from torchplug import TabularData, use
from torchplug.errors import CheckpointError, ConfigurationError, DataError
from torchplug.workflow.learning_curve.power_law import PowerLaw, fitted

CLOSED_FORM = {"model": use("linear"), "optimizer": "closed_form"}
TRAINER = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False}


def traced(tmp_path, data, config=CLOSED_FORM, **others):
    options = {"trainer": TRAINER, "tracking": {"mode": "disabled"}, "root": tmp_path}
    return torchplug.learning_curve(config, data, **{**options, **others})


def test_it_equals_separate_fits(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 5))
    y = X @ np.arange(5.0) + rng.normal(size=200)
    found = traced(tmp_path, TabularData((X, y)), fractions=[0.25, 0.5, 1.0], repeats=2)
    assert found.fits["rows"].to_list() == [30, 30, 60, 60, 120]
    folds = found.run.folds
    for number, (train_rmse, val_rmse) in enumerate(found.fits.select("train rmse", "val rmse").rows()):
        own = folds.filter(pl.col("fold") == number)
        train, validation = (
            own.filter(pl.col("part") == part)["row"].to_numpy() for part in ("training", "validation")
        )
        reference = LinearRegression().fit(X[train], y[train])
        for rows, rmse in ((train, train_rmse), (validation, val_rmse)):
            assert rmse == pytest.approx(np.sqrt(np.mean((y[rows] - reference.predict(X[rows])) ** 2)), rel=1e-9)


def test_parts_grow_and_validation_rows_stay(tmp_path):
    found = traced(tmp_path, TabularData("diabetes"), fractions=[0.2, 0.5, 1], repeats=2)
    parts = {(fold, part): set(rows["row"]) for (fold, part), rows in found.run.folds.group_by("fold", "part")}
    assert parts[0, "training"] < parts[2, "training"] < parts[4, "training"]
    assert parts[0, "training"] != parts[1, "training"]
    data = TabularData("diabetes")
    data.prepare(torchplug.ComponentModule(**CLOSED_FORM).data_request())
    assert all(parts[fold, "validation"] == set(data.row_numbers("validation")) for fold in range(5))
    assert parts[4, "training"] == set(data.row_numbers("train"))


def test_files_and_means(tmp_path):
    found = traced(tmp_path, TabularData("diabetes"), fractions=[0.2, 0.5, 1], repeats=3)
    written = pl.read_csv(found.run.path / "learning_curve.csv")
    assert written["val rmse"].to_list() == found.fits["val rmse"].to_list()
    row = found.table.row(0, named=True)
    own = written["val rmse"].to_numpy()[:3]
    assert (row["val rmse"], row["val rmse sd"]) == (pytest.approx(own.mean()), pytest.approx(own.std(ddof=1)))
    assert (found.run.path / "learning_curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("law", [PowerLaw(0.5, 3.0, 0.5), PowerLaw(0.0, 10.0, 1.0)])
def test_a_power_law_is_found(law):
    rows = np.array([20.0, 50.0, 100.0, 300.0])
    found = fitted(rows, np.array([law.at(n) for n in rows]))
    assert (found.a, found.b, found.c) == pytest.approx((law.a, law.b, law.c), abs=1e-9)


def test_what_follows_no_power_law_has_none():
    assert fitted(np.array([10.0, 20.0, 40.0]), np.array([1.0, 2.0, 3.0])) is None
    assert fitted(np.array([10.0, 20.0]), np.array([2.0, 1.0])) is None


@pytest.mark.parametrize("others", [{"fractions": [0.0, 1.0]}, {"fractions": [1.5]}, {"fractions": []}, {"repeats": 0}])
def test_impossible_settings_are_refused(tmp_path, others):
    with pytest.raises(ConfigurationError):
        traced(tmp_path, TabularData("diabetes"), **others)
    assert not list(tmp_path.iterdir())


def test_a_split_without_validation_is_refused(tmp_path):
    with pytest.raises(DataError, match="validation rows"):
        traced(tmp_path, TabularData("diabetes", split=[1.0]))


@pytest.mark.parametrize("steps", ["auto", 2], ids=["one program", "one by one"])
def test_an_interrupted_run_goes_on(tmp_path, steps):
    config = {"model": use("linear"), "optimizer": use("adam", lr=0.1), "steps_per_execution": steps}
    options = {"fractions": [0.5, 1.0], "repeats": 2, "trainer": {**TRAINER, "max_epochs": 40}}
    whole = traced(tmp_path / "whole", regression(), config, **options)
    with interrupted_after(60, tmp_path / "runs"), pytest.raises(KeyboardInterrupt, match="go on with resume='"):
        traced(tmp_path / "runs", regression(), config, **options)
    (directory,) = (tmp_path / "runs" / "learning_curve").iterdir()
    assert not (directory / "learning_curve.csv").exists()
    resumed = traced(tmp_path / "runs", regression(), config, resume="last", **options)
    assert resumed.run.path == directory
    assert resumed.fits.equals(whole.fits)
    assert (resumed.law, resumed.interval) == (whole.law, whole.interval)
    assert traced(tmp_path / "runs", regression(), config, resume=directory, **options).fits.equals(whole.fits)
    with pytest.raises(CheckpointError, match=r"other folds|has other|settings"):
        traced(tmp_path / "runs", regression(), config, resume="last", **{**options, "repeats": 3})
