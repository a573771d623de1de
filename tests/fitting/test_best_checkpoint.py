"""Which model `--ckpt_path best` gives: the solution of a full-batch optimizer, else the epoch of lowest val/loss."""

import csv
import json

import numpy as np
import polars
import pytest
import torch

STOPPING = "--trainer.callbacks+=EarlyStopping"


@pytest.fixture
def table(tmp_path):
    """Two classes that the features say little of: the first iterates have the lowest validation loss."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 8))
    y = (X[:, 0] + 2.0 * rng.normal(size=60) > 0).astype(int)
    path = tmp_path / "t.csv"
    polars.DataFrame({**{f"x{j}": X[:, j] for j in range(8)}, "y": y}).write_csv(path)
    return str(path)


def fit(run, table, *flags, optimizer="newton"):
    line = ["fit", "--data.source", table, "--data.target", "y", "--model.optimizer", optimizer, *flags]
    return run(line, "logistic_regression")


def the_run(tmp_path):
    (directory,) = (tmp_path / "runs" / "logistic_regression").iterdir()
    return directory


def predictions(run, tmp_path, which, table):
    line = ["predict", "--ckpt_path", which, "--data.source", table, "--output", f"{which}.csv"]
    assert run(line, "logistic_regression")[0] == 0
    return polars.read_csv(tmp_path / f"{which}.csv")


def validation_losses(directory):
    rows = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [row["val/loss"] for row in rows if "val/loss" in row]


@pytest.mark.parametrize("optimizer", ["newton", "lbfgs"])
def test_best_is_the_solution_that_is_reported(run, table, tmp_path, optimizer):
    status, printed, errors = fit(run, table, optimizer=optimizer)
    assert (status, errors) == (0, "")
    assert "converged" in printed
    directory = the_run(tmp_path)
    losses = validation_losses(directory)
    assert min(losses) < losses[-1], "the table shall make an earlier iterate look better"
    best, last = (directory / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
    assert best.read_bytes() == last.read_bytes()
    network = torch.load(best, weights_only=True)["state_dict"]
    preprocessing = torch.load(best, weights_only=True)["torchplug"]["preprocessing"]
    with (directory / "coefficients.csv").open() as file:
        written = [float(row["coefficient"]) for row in csv.DictReader(file) if row["feature"] != "(intercept)"]
    slopes = network["network.map.weight"][0] / preprocessing["scaling"]["scale"]
    np.testing.assert_allclose(written, slopes.numpy(), rtol=1e-12)
    assert predictions(run, tmp_path, "best", table).equals(predictions(run, tmp_path, "last", table))


def test_without_a_validation_split_there_is_a_best_as_well(run, table, tmp_path):
    assert fit(run, table, "--data.split", "[1.0]")[0] == 0
    assert (the_run(tmp_path) / "checkpoints" / "best.ckpt").is_file()


def test_early_stopping_on_validation_asks_for_the_iterate_of_lowest_loss(run, table, tmp_path):
    watching = [STOPPING, "--trainer.callbacks.monitor", "val/loss", "--trainer.callbacks.patience", "50"]
    status, printed, _ = fit(run, table, *watching)
    assert status == 0
    assert "note: EarlyStopping watches the validation split, so best.ckpt is the iterate of lowest val/loss" in printed
    directory = the_run(tmp_path)
    losses = validation_losses(directory)
    best = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == int(np.argmin(losses))
    assert best["epoch"] < len(losses) - 1


def test_minibatch_optimizers_keep_the_epoch_of_lowest_validation_loss(run, table, tmp_path):
    assert fit(run, table, "--trainer.max_epochs", "40", optimizer="nesterov")[0] == 0
    directory = the_run(tmp_path)
    losses = validation_losses(directory)
    best = torch.load(directory / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == int(np.argmin(losses))


def test_a_resumed_fit_replaces_the_earlier_solution(run, table, tmp_path):
    assert fit(run, table, "--trainer.max_epochs", "2")[0] == 0
    checkpoints = the_run(tmp_path) / "checkpoints"
    before = (checkpoints / "best.ckpt").read_bytes()
    assert run(["fit", "--ckpt_path", "best", "--trainer.max_epochs", "100"], "logistic_regression")[0] == 0
    after = (checkpoints / "best.ckpt").read_bytes()
    assert after == (checkpoints / "last.ckpt").read_bytes() != before
