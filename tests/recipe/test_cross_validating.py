"""The command `cross_validate`."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from many.interrupting import wait_for_rows
from recipe_calls import RECIPES, call
from recipe_processes import run_directories

SHORT = ["--data.source", "iris", "--trainer.max_epochs", "3"]
OWN = ["--data.source", "groups.csv", "--data.target", "y"]


def the_run(folder, recipe="mlp"):
    (directory,) = run_directories(folder, f"{recipe}-cross_validate")
    return directory


def test_a_table_of_folds_and_what_was_written(run, tmp_path):
    status, printed, errors = run(["cross_validate", *SHORT, "--folds", "3", "--repeats", "2"], recipe="mlp")
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
    for subcommand in ("test", "validate", "fit"):
        status, _, errors = run([subcommand, "--ckpt_path", str(directory)], recipe="mlp")
        assert (status, errors.count("\n")) == (2, 1)
        assert "an ensemble" in errors
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
    process = subprocess.Popen(
        [sys.executable, str(RECIPES / "logistic_regression.py"), *arguments, "--model.loss", "cross_entropy"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_for_rows(tmp_path / "runs", 30, process)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    command = re.search(r"interrupted; go on with: python \S+ (.*)", printed)[1].split()
    directory = the_run(tmp_path, "logistic_regression")
    assert not (directory / "folds.csv").exists()
    monkeypatch.chdir(tmp_path)
    assert call(capsys, command, "logistic_regression")[0] == 0
    assert Path(directory / "folds.csv").is_file()
    assert json.loads((directory / "outcome.json").read_text())["epochs"] == 300
