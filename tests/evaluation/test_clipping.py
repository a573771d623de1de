"""Predictions of numbers that are clipped to the range of the training target."""

import lightning
import numpy as np
import polars as pl
import pytest

import torchplug
from torchplug import Ensemble, TabularData, fit_many, use
from torchplug.errors import CheckpointError
from torchplug.preprocessing import DataRequirements
from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint

CONFIG = {"model": use("linear"), "optimizer": use("closed_form")}
RISING = pl.DataFrame({"t": np.arange(100.0), "y": 3 * np.arange(100.0) - 7, "z": -np.arange(100.0)})


@pytest.fixture
def fitted(tmp_path):
    """Fit the first 60 rows, validate and test along time, where the target leaves its range."""

    def run(source=RISING, target="y", config=CONFIG, **settings):
        data = TabularData(source, target, time="t", features=["t"], **{"batch_size": 20, **settings})
        quiet = {"tracking": {"mode": "disabled"}, "root": tmp_path / "runs"}
        return data, torchplug.fit(config, data, trainer={"max_epochs": 1, "accelerator": "cpu"}, **quiet)

    return run


def metrics_of(module, data, function="validate"):
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (values,) = getattr(trainer, function)(module, datamodule=data, verbose=False)
    return values


@pytest.mark.parametrize("standardize_target", [True, False])
def test_predict_validate_and_test_are_clipped_and_training_is_not(fitted, standardize_target):
    data, free = fitted(standardize_target=standardize_target)
    _, clipped = fitted(standardize_target=standardize_target, clip_target=True)
    module, rows = torchplug.load(clipped.run), RISING.drop("y", "z")
    raw = torchplug.load(free.run).predict(rows)["y"].to_numpy()
    np.testing.assert_allclose(raw, RISING["y"], atol=1e-6)
    low, high = RISING["y"][0], RISING["y"][59]
    assert module.predict(rows)["y"].to_list() == pytest.approx(np.clip(raw, low, high).tolist(), abs=1e-6)
    assert module.predict(rows)["y"].max() == high, "the limits themselves"
    for function, split, name in (("validate", "validation", "val"), ("test", "test", "test")):
        true = data.frame_of(split)["y"].to_numpy()
        values = metrics_of(module, data, function)
        assert values[f"{name}/rmse"] == pytest.approx(np.sqrt(np.mean((true - high) ** 2)), rel=1e-6)
    assert clipped.metrics["train/loss"] == free.metrics["train/loss"]
    assert clipped.metrics["val/loss"] == free.metrics["val/loss"]


def test_numbers_are_clipped_automatically_unless_rows_are_split_by_time():
    def limits(target, **settings):
        data = TabularData(RISING.with_columns(c=pl.Series(["a", "b"] * 50)), target, clip_target="auto", **settings)
        data.prepare(DataRequirements(kind="binary" if target == "c" else "regression"))
        return data.preprocessing.target_coding.limits

    assert limits("y") is not None
    assert limits("y", time="t") is None
    assert limits("c") is None


def test_each_target_column_has_its_own_range(fitted):
    _, result = fitted(target=["y", "z"], clip_target=True)
    predicted = result.module.predict(pl.DataFrame({"t": [-50.0, 30.0, 500.0]}))
    np.testing.assert_allclose(predicted["y"], [-7, 83, RISING["y"][59]], atol=1e-6)
    np.testing.assert_allclose(predicted["z"], [0, -30, RISING["z"][59]], atol=1e-6)


def test_residuals_are_those_of_clipped_predictions(fitted):
    _, result = fitted(clip_target=True)
    table = result.module.predict(pl.DataFrame({"t": [30.0]}), interval=0.5)
    errors = np.sort(RISING["y"][60:80].to_numpy() - RISING["y"][59])
    np.testing.assert_allclose(table["y_upper"] - table["y"], errors[np.ceil(0.5 * 21).astype(int) - 1], rtol=1e-6)


def test_a_streamed_table_has_the_same_range(fitted, tmp_path):
    RISING.write_parquet(tmp_path / "rising.parquet")
    column = {"split_column": "part"}
    parts = ["train"] * 60 + ["validation"] * 20 + ["test"] * 20
    table = RISING.with_columns(part=pl.Series(parts))
    table.write_parquet(tmp_path / "rising.parquet")
    config = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}
    limits = []
    for source, stream in ((table, False), (str(tmp_path / "rising.parquet"), True)):
        data = TabularData(source, "y", features=["t"], batch_size=20, stream=stream, clip_target=True, **column)
        result = torchplug.fit(
            config, data, trainer={"max_epochs": 1, "accelerator": "cpu"}, tracking={"mode": "disabled"},
            root=tmp_path / "runs",
        )  # fmt: skip
        limits.append(torchplug.load(result.run).preprocessing.target_coding.limits.tolist())
        assert result.module.calibration.residuals.rows == 20
    assert limits == [[[-7.0], [RISING["y"][59]]]] * 2


def test_members_of_an_ensemble_are_clipped_each():
    data = TabularData(RISING.select("t", "y"), "y", batch_size=20, clip_target=True)
    config = {"model": use("linear"), "optimizer": use("adam", lr=0.5)}
    folds = [(np.arange(50), np.arange(50, 60)), (np.arange(30), np.arange(30, 60))]
    results = fit_many([config], data, folds=folds, trainer={"max_epochs": 200, "accelerator": "cpu"})
    predicted = Ensemble([result.module for result in results]).predict(pl.DataFrame({"t": [1000.0]}))
    assert predicted["y"].item() == pytest.approx((RISING["y"][49] + RISING["y"][29]) / 2)


@pytest.mark.parametrize("limits", [[[0.0]], [[0.0, 1.0], [2.0, 3.0]], [[float("nan")], [1.0]]])
def test_damaged_limits_are_refused(fitted, limits):
    _, result = fitted(clip_target=True)
    content = read_checkpoint(result.run.best)
    target = content["torchplug"]["preprocessing"]["target"]
    target["limits"] = target["limits"].new_tensor(limits)
    write_checkpoint(content, result.run.best)
    with pytest.raises(CheckpointError, match="preprocessing cannot be read"):
        torchplug.load(result.run.best)


def test_a_checkpoint_from_before_has_no_limits(fitted):
    _, result = fitted()
    content = read_checkpoint(result.run.best)
    del content["torchplug"]["preprocessing"]["target"]["limits"], content["torchplug"]["calibration"]
    write_checkpoint(content, result.run.best)
    rows = RISING.drop("y", "z")
    assert torchplug.load(result.run.best).predict(rows).equals(result.module.predict(rows))
