"""The command `cross_validate`."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
import sklearn.metrics
import torch

import torchplug
from recipe_calls import call
from recipe_processes import interrupted, run_directories
from torchplug import TabularData

SHORT = ["--data.source", "iris", "--trainer.max_epochs", "3"]
OWN = ["--data.source", "groups.csv", "--data.target", "y"]


def the_run(folder, recipe="mlp"):
    (directory,) = run_directories(folder, f"{recipe}-cross_validate")
    return directory


def test_a_table_of_folds_and_what_was_written(run, tmp_path):
    flags = ["--folds", "3", "--repeats", "2", "--model.model", "mlp"]
    status, printed, errors = run(["cross_validate", *SHORT, *flags], recipe="mlp")
    assert (status, errors) == (0, "")
    directory = the_run(tmp_path)
    table = pl.read_csv(directory / "folds.csv")
    (accuracy,) = table.filter(metric="accuracy").to_dicts()
    for line in ("mlp: 6 folds", "training 6 models in 1 program", "accuracy", "± (95 %)"):
        assert line in printed
    assert re.search(rf"mean .* {accuracy['mean']:.6g} ", printed)
    for name in ("folds.csv", "out_of_fold.csv", "out_of_fold.png"):
        assert str(directory.relative_to(tmp_path) / name) in printed
    assert pl.read_csv(directory / "out_of_fold.csv").height == 2 * 120


def test_the_ensemble_predicts(run, tmp_path):
    run(["cross_validate", *SHORT, "--folds", "3"], recipe="mlp")
    directory = the_run(tmp_path)
    status, printed, _ = run(["predict", "--ckpt_path", str(directory), "--output", "p.csv"], recipe="mlp")
    assert (status, printed) == (0, "150 predictions: p.csv\n")
    assert pl.read_csv(tmp_path / "p.csv").columns[:2] == ["row", "target"]
    status, _, errors = run(["fit", "--ckpt_path", str(directory)], recipe="mlp")
    assert (status, errors.count("\n")) == (2, 1)
    assert "an ensemble" in errors


@pytest.mark.parametrize(("recipe", "source"), [("mlp", "iris"), ("linear_regression", "diabetes")])
def test_the_ensemble_is_evaluated(run, tmp_path, recipe, source):
    flags = ["--trainer.max_epochs", "3", "--folds", "3"]
    flags += ["--model.calibrate", "false", "--model.loss.label_smoothing", "0"] if recipe == "mlp" else []
    run(["cross_validate", "--data.source", source, *flags], recipe=recipe)
    directory = the_run(tmp_path, recipe)
    ledger = tmp_path / "runs" / "test_ledger.jsonl"
    status, printed, errors = run(["validate", "--ckpt_path", str(directory)], recipe=recipe)
    assert (status, errors) == (0, "")
    assert "see folds.csv for unseen rows" in printed
    assert not ledger.exists()
    for opened in (1, 2):
        status, printed, errors = run(["test", "--ckpt_path", str(directory)], recipe=recipe)
        assert status == 0
        assert ("opened before, 1 ×" in errors) == (opened == 2)
        assert len(ledger.read_text().splitlines()) == opened
    content = torch.load(directory / "checkpoints" / "ensemble.ckpt", weights_only=True)
    data = TabularData(**content["datamodule_hyper_parameters"])
    ensemble = torchplug.load(directory)
    data.prepare(ensemble.members[0].data_request())
    evaluated = {"val": {}, "test": {}}
    for line in (directory / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, value in row.items() if "evaluated" in row else ():
            split, _, metric = name.partition("/")
            if metric:
                evaluated[split][metric] = value
    for split, name in (("val", "validation"), ("test", "test")):
        frame = data.frame_of(name)
        found, true = ensemble.predict(frame), frame["target"].to_numpy()
        if source == "iris":
            chances = found.select(pl.selectors.starts_with("probability_")).to_numpy()
            expected = {
                "accuracy": sklearn.metrics.accuracy_score(true, found["target"].to_numpy()),
                "macro_f1": sklearn.metrics.f1_score(true, found["target"].to_numpy(), average="macro"),
                "log_loss": sklearn.metrics.log_loss(true, chances),
            }
        else:
            guess = found["target"].to_numpy()
            expected = {
                "rmse": sklearn.metrics.root_mean_squared_error(true, guess),
                "mae": sklearn.metrics.mean_absolute_error(true, guess),
                "r2": sklearn.metrics.r2_score(true, guess),
            }
        expected["loss"] = expected["log_loss"] if source == "iris" else expected["rmse"] ** 2
        assert evaluated[split] == pytest.approx(expected, rel=1e-6)
        assert f"{evaluated['test'][next(iter(expected))]:.6g}" in printed


@pytest.mark.parametrize(
    "limit", [["--trainer.limit_test_batches", "1"], ["--trainer.accelerator", "cpu", "--trainer.devices", "2"]]
)
def test_a_part_of_the_split_is_refused_for_an_ensemble(run, tmp_path, limit):
    run(["cross_validate", *SHORT, "--folds", "2"], recipe="mlp")
    status, _, errors = run(["test", "--ckpt_path", str(the_run(tmp_path)), *limit], recipe="mlp")
    assert (status, errors.count("\n")) == (2, 1)
    assert "an ensemble is evaluated in one process and on the whole split" in errors
    assert not (tmp_path / "runs" / "test_ledger.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--folds", "1"], "folds must be a whole number of at least 2, not 1"),
        (["--folds", "two"], "--folds: expected int, got two"),
        (["--folds", "121"], "121 folds of 120 rows"),
        (["--folds", "41"], "class 0 has 40 rows for 41 folds"),
        (["--data.group", "g", *OWN, "--data.split", "[0.6,0.4]"], "'g' has 3 groups for 5 folds"),
        (["--data.group", "h", *OWN], "no column h"),
        (["--data.stream", "true", "--data.source", "t.parquet", "--data.target", "y"], "leave out stream"),
        (["--data.validation", "groups.csv", *OWN], "leave out the table for validation"),
        (["--trainer.accelerator", "cpu", "--trainer.devices", "2"], "in one process"),
        (["--resume", "last"], "no run of mlp-cross_validate in runs can be resumed"),
    ],
)
def test_refused_in_one_line(run, tmp_path, flags, reason):
    numbers = range(60)
    table = pl.DataFrame({"a": numbers, "b": [i % 7 for i in numbers], "g": [i % 3 for i in numbers]})
    table = table.with_columns(y=pl.col("a").sqrt())
    table.write_csv(tmp_path / "groups.csv")
    table.write_parquet(tmp_path / "t.parquet")
    status, _, errors = run(["cross_validate", *SHORT, *flags], recipe="mlp")
    assert (status, errors.count("\n")) == (2, 1)
    assert reason in errors
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_run_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    arguments = ["cross_validate", "--data.source", "iris", "--folds", "3", "--trainer.max_epochs", "300"]
    command = interrupted(tmp_path, "logistic_regression", *arguments, "--model.loss", "cross_entropy")
    directory = the_run(tmp_path, "logistic_regression")
    assert not (directory / "folds.csv").exists()
    monkeypatch.chdir(tmp_path)
    assert call(capsys, command, "logistic_regression")[0] == 0
    assert Path(directory / "folds.csv").is_file()
    assert json.loads((directory / "outcome.json").read_text())["epochs"] == 300
