"""Runs that were interrupted, and are resumed by `fit --ckpt_path`: in one process."""

import json
import shutil

import numpy as np
import polars
import pytest
import torch
import yaml
from filelock import FileLock

from recipe_processes import rows, run_directories

UNTRACKED = ["--tracking.mode", "disabled"]


@pytest.fixture
def table(tmp_path):
    """A table of 80 numeric rows: 48 train."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    frame = polars.DataFrame(
        {"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "y": X @ [2.0, -1.0, 0.5] + rng.normal(size=80)}
    )
    frame.write_csv(tmp_path / "plain.csv")
    return [
        "--data.source",
        "plain.csv",
        "--data.target",
        "y",
        "--data.batch_size",
        "8",
        "--trainer.log_every_n_steps",
        "4",
    ]


def the_run(tmp_path, recipe="linear_regression"):
    return run_directories(tmp_path, recipe)[-1]


def weights(directory, name="last"):
    return torch.load(directory / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def assert_equal_runs(first, second):
    """Two run directories with equal weights, rows and coefficients."""
    assert rows(first) == rows(second)
    for name in ("last", "best"):
        one, other = weights(first, name), weights(second, name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    if (first / "coefficients.csv").is_file():
        assert (first / "coefficients.csv").read_text() == (second / "coefficients.csv").read_text()


@pytest.mark.parametrize("steps", [1, 3, 6, 9, 12])
def test_a_run_that_max_steps_stopped_continues_exactly(run, table, tmp_path, steps):
    limits = ["--trainer.max_epochs", "1000", "--trainer.max_steps"]
    assert run(["fit", *table, *limits, str(steps)])[0] == 0
    for more in (steps + 4, 18):
        assert run(["fit", "--ckpt_path", "last", "--trainer.max_steps", str(more)])[0] == 0
    assert run(["fit", *table, *limits, "18"])[0] == 0
    assert_equal_runs(*run_directories(tmp_path, "linear_regression"))


def test_a_run_that_epochs_stopped_continues_exactly(run, table, tmp_path):
    flags = ["--model.scheduler", "plateau", "--model.scheduler.patience", "0", "--model.scheduler.threshold", "0.5"]
    run(["fit", *table, *flags, "--trainer.max_epochs", "3"])
    assert run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "7"])[0] == 0
    run(["fit", *table, *flags, "--trainer.max_epochs", "7"])
    assert_equal_runs(*run_directories(tmp_path, "linear_regression"))


def test_dropout_continues_exactly(run, tmp_path):
    short = ["--data.batch_size", "256", "--model.scheduler", "constant"]
    run(["fit", *short, "--trainer.max_epochs", "2"], "mlp")
    assert run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"], "mlp")[0] == 0
    run(["fit", *short, "--trainer.max_epochs", "4"], "mlp")
    assert_equal_runs(*run_directories(tmp_path, "mlp"))


def test_the_best_checkpoint_continues_exactly(run, table, tmp_path):
    run(["fit", *table, "--trainer.max_epochs", "3"])
    first = the_run(tmp_path)
    best = torch.load(first / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["torchplug"]["fit"]["position"][2] == "validated", "the epoch's end is outstanding"
    assert run(["fit", "--ckpt_path", "best", "--trainer.max_epochs", "6"])[0] == 0
    run(["fit", *table, "--trainer.max_epochs", "6"])
    assert_equal_runs(*run_directories(tmp_path, "linear_regression"))


def test_a_chain_of_checkpoints_within_epochs_ends_as_the_uninterrupted_run(run, table, tmp_path):
    """An epoch has 6 batches: each run starts from a checkpoint that the run before it wrote."""
    settings = {"every_n_train_steps": "2", "save_top_k": "-1", "filename": "{step}", "dirpath": "steps"}
    saves = ["--trainer.callbacks+=ModelCheckpoint"]
    saves += [f"--trainer.callbacks.{name}={value}" for name, value in settings.items()]
    status, _, errors = run(["fit", *table, *saves, "--trainer.max_epochs", "5"])
    assert status == 0, errors
    whole = the_run(tmp_path)
    resumed = whole.with_name("resumed")
    shutil.copytree(whole, resumed)
    last = resumed / "checkpoints" / "last.ckpt"
    for step in (6, 8, 12, 16, 24, 28):
        shutil.copy(tmp_path / "steps" / f"step={step}.ckpt", last)
        (tmp_path / "steps" / f"step={step + 2}.ckpt").unlink()
        status, _, errors = run(["fit", "--ckpt_path", str(last), "--trainer.max_epochs", "5"])
        assert status == 0, errors
        assert rows(resumed) == rows(whole)
        assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_how_steps_are_made_comes_back_and_may_change(run, table, tmp_path):
    flags = ["--model.sync_every", "8", "--model.engine", "autograd", "--model.steps_per_execution", "3"]
    run(["fit", *table, *flags, "--trainer.max_epochs", "2"])
    status, _, errors = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    assert status == 0, errors
    model = yaml.safe_load((the_run(tmp_path) / "config.yaml").read_text())["model"]
    assert (model["sync_every"], model["engine"], model["steps_per_execution"]) == (8, "autograd", 3)
    for flag in (["--model.sync_every", "8"], ["--model.engine", "auto"]):
        status, _, errors = run(["fit", "--ckpt_path", "last", *flag, "--trainer.max_epochs", "4"])
        assert (status, errors) == (0, "") or "behind it" in errors


def test_tracking_settings_come_back_and_flags_override(run, table, tmp_path):
    given = {"id": "keepme", "project": "proj", "group": "grp", "name": "nm"}
    flags = [text for name, value in given.items() for text in (f"--tracking.{name}", value)]
    run(["fit", *table, *UNTRACKED, *flags, "--trainer.max_epochs", "2"])
    assert run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3", "--tracking.group", "other"])[0] == 0
    settings = yaml.safe_load((the_run(tmp_path) / "config.yaml").read_text())["tracking"]
    assert {**given, "mode": "disabled", "group": "other"}.items() <= settings.items()


def test_provenance_keeps_the_first_record(run, table, tmp_path):
    run(["fit", *table, "--trainer.max_epochs", "2"])
    first = json.loads((the_run(tmp_path) / "provenance.json").read_text())
    for epochs in ("3", "4"):
        run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", epochs])
    record = json.loads((the_run(tmp_path) / "provenance.json").read_text())
    assert len(record.pop("resumed")) == 2
    assert record == first


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (["--trainer.max_epochs", "2"], "has 3 epochs behind it: ask for more in all, such as --trainer.max_epochs 6"),
        (["--trainer.max_epochs", "3"], "has 3 epochs behind it"),
        ([], "has 3 epochs behind it"),
        (
            ["--trainer.max_epochs", "9", "--trainer.max_steps", "5"],
            "has 18 steps behind it: ask for more in all, such as",
        ),
        (["--trainer.max_epochs", "9", "--trainer.max_steps", "18"], "has 18 steps behind it"),
    ],
)
def test_nothing_left_to_do_is_refused_and_nothing_is_written(run, table, tmp_path, limit, message):
    run(["fit", *table, "--trainer.max_epochs", "3"])
    before = {path: path.read_bytes() for path in the_run(tmp_path).rglob("*") if path.is_file()}
    status, _, errors = run(["fit", "--ckpt_path", "last", *limit])
    assert status == 2
    assert message in errors
    assert {path: path.read_bytes() for path in the_run(tmp_path).rglob("*") if path.is_file()} == before
    assert len(run_directories(tmp_path, "linear_regression")) == 1


def test_a_time_that_is_over_is_refused(run, table):
    run(["fit", *table, "--trainer.max_epochs", "3", "--trainer.max_time", "00:01:00:00"])
    status, _, errors = run(
        ["fit", "--ckpt_path", "last", "--trainer.max_epochs", "9", "--trainer.max_time", "00:00:00:00"]
    )
    assert status == 2
    assert "of training behind it: ask for more in all, such as --trainer.max_time" in errors


def test_a_solver_that_has_converged_is_refused(run, table):
    run(["fit", *table, "--model.optimizer", "newton", "--trainer.max_epochs", "50"])
    status, _, errors = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "90"])
    assert status == 2
    assert "training has ended (converged" in errors


@pytest.mark.parametrize("optimizer", ["adam", "levenberg_marquardt", "closed_form"])
def test_a_run_that_was_killed_before_its_end_was_written_is_finished_without_training(run, table, tmp_path, optimizer):
    run(["fit", *table, "--model.optimizer", optimizer, "--trainer.max_epochs", "4"])
    directory = the_run(tmp_path)
    expected = {name: (directory / name).read_text() for name in ("coefficients.csv", "outcome.json", "metrics.jsonl")}
    checkpoint = (directory / "checkpoints" / "last.ckpt").read_bytes()
    for name in ("coefficients.csv", "outcome.json"):
        (directory / name).unlink()
    status, printed, errors = run(["fit", "--ckpt_path", "last"])
    assert (status, errors) == (0, "")
    assert "validation" in printed
    assert {name: (directory / name).read_text() for name in expected} == expected
    assert (directory / "checkpoints" / "last.ckpt").read_bytes() == checkpoint
    assert run(["fit", "--ckpt_path", "last"])[0] == 2, "now it is finished"


def test_a_run_that_another_process_trains_is_refused(run, table, tmp_path):
    run(["fit", *table, "--trainer.max_epochs", "2"])
    directory = the_run(tmp_path)
    config = (directory / "config.yaml").read_text()
    with FileLock(directory / ".lock"):
        status, _, errors = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
        assert status == 2
        assert "is in use: another process trains in it" in errors
        assert (directory / "config.yaml").read_text() == config
    assert run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"])[0] == 0


def test_the_run_that_is_taken_is_named_with_the_reason(run, table, tmp_path):
    run(["fit", *table, "--trainer.max_epochs", "2"])
    directory = the_run(tmp_path)
    newer = directory.parent / "99991231-235959.000-abcdef"
    newer.mkdir()
    _, printed, _ = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "3"])
    run_name = directory.relative_to(tmp_path)
    assert (
        f"note: last is that of {run_name}, as {newer.relative_to(tmp_path)}, which is newer, has no checkpoint"
        in printed
    )
    newer.rmdir()
    _, printed, _ = run(["validate"])
    assert f"note: best is that of {run_name}\n" in printed


def test_rows_of_evaluations_are_kept(run, table, tmp_path):
    run(["fit", *table, "--trainer.max_epochs", "2"])
    run(["validate"])
    run(["test"])
    run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
    resumed = the_run(tmp_path)
    evaluations = [row for row in rows(resumed) if "evaluated" in row]
    assert [(row["evaluated"], "test/rmse" in row) for row in evaluations] == [
        ("best.ckpt", False),
        ("best.ckpt", True),
    ]
    run(["fit", *table, "--trainer.max_epochs", "4"])
    assert [row for row in rows(resumed) if "evaluated" not in row] == rows(the_run(tmp_path))


def test_a_run_directory_that_was_moved_keeps_its_best_checkpoint(run, table, tmp_path):
    run(["fit", *table, "--trainer.max_epochs", "12"])
    moved = the_run(tmp_path).rename(tmp_path / "moved")
    best = (moved / "checkpoints" / "best.ckpt").read_bytes()
    flags = ["--trainer.max_epochs", "14", "--trainer.limit_val_batches", "1"]
    assert run(["fit", "--ckpt_path", str(moved / "checkpoints" / "last.ckpt"), *flags])[0] == 0
    scores = [row["val/loss"] for row in rows(moved) if "val/loss" in row]
    improved = min(scores[12:]) < min(scores[:12])
    assert ((moved / "checkpoints" / "best.ckpt").read_bytes() != best) == improved
