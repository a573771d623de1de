"""A run that diverges says where it lies, and which checkpoint is the last good one."""

import json

import pytest
import torch

from torchplug.fitting.last_good import what_is_left
from torchplug.tracking.run import Run


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Run.create("mlp")


def keep(directory, name, epoch, weight=1.0):
    directory.checkpoints.mkdir(exist_ok=True)
    torch.save({"epoch": epoch, "state_dict": {"weight": torch.tensor([weight])}}, directory.checkpoints / name)


def validated(directory, losses):
    rows = [{"step": epoch, "epoch": epoch, "val/loss": loss} for epoch, loss in enumerate(losses)]
    directory.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_run_that_diverges(run, tmp_path):
    line = ["fit", "--data.batch_size", "32", "--model.optimizer.lr", "3e5", "--trainer.max_epochs", "60"]
    status, _, errors = run(line)
    assert (status, errors.count("\n")) == (3, 1)
    assert "is NaN or infinite at epoch" in errors
    (directory,) = tmp_path.glob("runs/*/*")
    assert f"the run is {directory.relative_to(tmp_path)}" in errors


def test_the_last_is_good(directory):
    keep(directory, "best.ckpt", 1)
    keep(directory, "last.ckpt", 3)
    validated(directory, [5.0, 1.0, 2.0, 3.0])
    assert "its last good checkpoint checkpoints/last.ckpt of epoch 3" in what_is_left(directory)
    assert "diverged" not in what_is_left(directory)


def test_the_loss_of_the_last_was_not_finite(directory):
    keep(directory, "best.ckpt", 1)
    keep(directory, "last.ckpt", 3)
    validated(directory, [5.0, 1.0, 2.0, None])
    left = what_is_left(directory)
    assert "its last good checkpoint checkpoints/best.ckpt of epoch 1" in left
    assert "checkpoints/last.ckpt had diverged already" in left


def test_weights_that_are_not_finite(directory):
    keep(directory, "last.ckpt", 3, weight=float("nan"))
    assert "no good checkpoint; checkpoints/last.ckpt had diverged already" in what_is_left(directory)


def test_no_checkpoint(directory):
    assert "no checkpoint yet" in what_is_left(directory)
