"""How sure predictions are, from the command line."""

import re

import numpy as np
import polars as pl
import pytest

import torchplug
from recipe_processes import TWO_RANKS
from recipe_processes import run as run_process
from torchplug import TabularData
from torchplug.tracking.checkpoint_file import read_checkpoint

NUMBERS = ["fit", "--data.source", "diabetes", "--trainer.max_epochs", "3", "--model.model.hidden", "[8]"]
CLASSES = ["fit", "--trainer.max_epochs", "5"]
NINE = ["predict", "--interval", "0.9"]


def best_of(tmp_path, recipe):
    (file,) = tmp_path.glob(f"runs/{recipe}/*/checkpoints/best.ckpt")
    return file


def test_a_fit_says_how_wide_intervals_are_and_predict_writes_them(run, tmp_path):
    status, printed, _ = run(NUMBERS, "mlp")
    assert status == 0
    half = float(re.search(r"90 % intervals, by 89 validation rows: target ± ([\d.]+) \(predict", printed)[1])
    line = ["predict", "--interval", "0.9", "--output", "p.csv", "--id", "age"]
    assert run(line, "mlp")[0] == 0
    table = pl.read_csv(tmp_path / "p.csv")
    assert table.columns == ["row", "age", "target", "target_lower", "target_upper"]
    np.testing.assert_allclose(table["target_upper"] - table["target"], np.full(len(table), half), rtol=1e-3)
    np.testing.assert_allclose(table["target"] - table["target_lower"], np.full(len(table), half), rtol=1e-3)


def test_a_fit_says_what_a_temperature_changes_and_test_reports_it(run, tmp_path):
    assert "temperature" not in run(CLASSES, "logistic_regression")[1]
    losses = {}
    for setting in ("false", "true"):
        line = ["validate", "--model.calibrate", setting]
        losses[setting] = float(re.search(r"loss +│ +([\d.]+)", run(line, "logistic_regression")[1])[1])
        line = ["predict", "--output", f"{setting}.csv", "--model.calibrate", setting]
        assert run(line, "logistic_regression")[0] == 0
    plain, scaled = (pl.read_csv(tmp_path / f"{setting}.csv") for setting in ("false", "true"))
    assert plain["target"].equals(scaled["target"])
    assert not plain["probability_1"].equals(scaled["probability_1"])
    _, printed, _ = run([*CLASSES, "--model.calibrate", "true"], "logistic_regression")
    changes = r"log loss ([\d.]+) → ([\d.]+), calibration error [\d.]+ → [\d.]+"
    said = re.search(rf"temperature ([\d.]+), by 114 validation rows: {changes}", printed)
    assert float(said[2]) == pytest.approx(losses["false"], rel=1e-3)
    assert float(said[3]) == pytest.approx(losses["true"], rel=1e-3)
    assert run(["predict", "--output", "own.csv"], "logistic_regression")[0] == 0
    assert pl.read_csv(tmp_path / "own.csv").equals(scaled)
    _, printed, _ = run(["predict", "--ckpt_path", "last"], "logistic_regression")
    assert "note: probabilities are not scaled: a temperature is kept in best.ckpt when a fit ends" in printed


def test_calibration_error_is_a_metric(run):
    _, printed, _ = run([*CLASSES, "--model.metrics+=calibration_error"], "logistic_regression")
    assert re.search(r"calibration_error +│ +│ +0\.\d+", printed)


@pytest.mark.parametrize(
    ("fit", "command", "reason"),
    [
        (NUMBERS, ["predict", "--interval", "1.5"], "level of an interval is between 0 and 1, such as 0.9, not 1.5"),
        (NUMBERS, ["predict", "--interval", "0.99"], "needs at least 99 validation rows, and there were 89"),
        (NUMBERS, [*NINE, "--ckpt_path", "last"], "keeps them in its best.ckpt when it ends"),
        ([*NUMBERS, "--data.split", "[1.0]"], [*NINE, "--ckpt_path", "last"], "a fit with a validation split keeps"),
        (CLASSES, NINE, "predictions of multiclass losses come with probabilities"),
        (NUMBERS, ["fit", "--data.source", "diabetes", "--model.calibrate", "true"], "mse predicts numbers"),
        (
            NUMBERS,
            ["fit", "--data.clip_target", "true"],
            "clip_target is for regression, and the loss is for",
        ),
    ],
)
def test_refusals(run, fit, command, reason, tmp_path):
    assert run(fit, "mlp")[0] == 0
    before = sorted(tmp_path.rglob("*"))
    status, _, errors = run(command, "mlp")
    assert status == 2
    assert reason in errors
    assert len([line for line in errors.splitlines() if "error" in line]) == 1
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"


def test_two_ranks_keep_the_residuals_of_all_rows(tmp_path):
    status, printed, errors = run_process(tmp_path, "mlp", *NUMBERS, *TWO_RANKS)
    assert status == 0, errors
    assert printed.count("90 % intervals, by 89 validation rows") == 1
    module = torchplug.load(best_of(tmp_path, "mlp"))
    data = TabularData("diabetes", "target")
    data.prepare(module.data_request())
    rows = data.frame_of("validation")
    errors = np.sort(np.abs(rows["target"] - module.predict(rows)["target"]))
    np.testing.assert_allclose(module.calibration.residuals.values[:, 0], errors, rtol=1e-4, atol=1e-3)


def test_streamed_tables_too(run, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 2))
    table = pl.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x.sum(1) + rng.normal(size=500)})
    table.write_parquet(tmp_path / "t.parquet")
    line = ["fit", "--data.source=t.parquet", "--data.target=y", "--data.stream=true", "--trainer.max_epochs=2"]
    status, printed, errors = run([*line, "--data.batch_size=32", "--model.optimizer=adam"], "linear_regression")
    assert status == 0, errors
    assert "90 % intervals, by" in printed
    residuals = read_checkpoint(best_of(tmp_path, "linear_regression"))["torchplug"]["calibration"]["residuals"]
    assert 60 < residuals["rows"] < 140
