"""The commands `path`, `tune_lr` and `tune_batch_size`."""

import re
import shlex
import signal
import subprocess
import sys
import time

import polars as pl
import pytest

from recipe_calls import RECIPES, call
from recipe_processes import run_directories

LASSO = [
    "--model.optimizer",
    "proximal_newton",
    "--model.regularizers",
    "[{class_path: l1, init_args: {proximal: true}}]",
]


def test_a_path_and_a_fit_with_its_best_penalty(run, tmp_path):
    status, printed, errors = run(["path", *LASSO, "--coefficient", "log(0.1,100)", "--points", "12", "--folds", "3"])
    assert (status, errors) == (0, "")
    (directory,) = run_directories(tmp_path, "linear_regression-path")
    for name in ("path.csv", "coefficients.csv", "path.png", "best.yaml", "best_1se.yaml"):
        assert str(directory.relative_to(tmp_path) / name) in printed
    best = pl.read_csv(directory / "path.csv").sort("mean")["coefficient"][0]
    assert f"{best:.6g}" in printed
    status, printed, errors = run(["fit", "--config", str(directory / "best.yaml")])
    assert (status, errors) == (0, "")
    (fitted,) = run_directories(tmp_path, "linear_regression")
    assert repr(best) in (fitted / "config.yaml").read_text()


def test_an_interrupted_path_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    grid = ["--coefficient", "log(1e-4,1)", "--points", "60", "--folds", "3"]
    arguments = ["path", "--data.source", "iris", "--model.loss", "cross_entropy", *LASSO, *grid]
    process = subprocess.Popen(
        [sys.executable, str(RECIPES / "logistic_regression.py"), *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 120
    while not list(tmp_path.glob("**/path.ckpt")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    command = re.search(r"interrupted; go on with: python \S+ (.*)", printed)[1]
    (directory,) = run_directories(tmp_path, "logistic_regression-path")
    assert not (directory / "path.csv").exists()
    monkeypatch.chdir(tmp_path)
    assert call(capsys, shlex.split(command), "logistic_regression")[0] == 0
    assert pl.read_csv(directory / "path.csv").height == 60
    assert run_directories(tmp_path, "logistic_regression-path") == [directory]


def test_leave_one_out(run):
    line = [
        "path",
        "--model.optimizer",
        "closed_form",
        "--model.regularizers",
        "[l2]",
        "--folds",
        "loo",
        "--points",
        "9",
    ]
    status, printed, _ = run(line)
    assert status == 0
    assert "generalized" in printed


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["path"], "no penalty"),
        (["path", *LASSO, "--coefficient", "log(1,0.1)"], "reversed"),
        (["path", *LASSO, "--coefficient", "log(0,1)"], "starts above 0"),
        (["path", *LASSO, "--points", "1"], "at least 2"),
        (["path", *LASSO, "--folds", "9999"], "9999 folds"),
        (["path", *LASSO, "--folds", "loo"], "exact for ridge"),
        (["path", *LASSO, "--resume", "last"], "no run of linear_regression-path in runs can be resumed"),
        (["path", *LASSO, "--folds", "many"], "--folds"),
        (["tune_lr", "--lowest", "1", "--highest", "0.1"], "lowest < highest"),
        (["tune_batch_size", "--sizes", "[0]"], "at least 1"),
    ],
)
def test_bad_input_is_one_line(run, tmp_path, line, reason):
    status, _, errors = run(line)
    assert (status, errors.count("\n")) == (2, 1)
    assert reason in errors
    assert not (tmp_path / "runs").exists()


def test_tuning(run, tmp_path):
    status, printed, errors = run(["tune_lr", "--steps", "30", "--data.batch_size", "32"])
    assert (status, errors) == (0, "")
    assert "suggestion: --model.optimizer.lr" in printed
    status, printed, errors = run(["tune_batch_size", "--sizes", "[16,64]", "--seconds", "0.05"])
    assert (status, errors) == (0, "")
    assert "suggestion: --data.batch_size" in printed
    assert len(run_directories(tmp_path, "linear_regression-tune_batch_size")) == 1
