"""Disks that are full or read-only where a recipe writes."""

import shutil

import pytest
import torch

from fault_tries import EVERYTHING, selected
from mounts import fill, read_only, small_disk
from recipe_processes import TWO_RANKS, finish, kill, rows, run_directories, start, wait_for
from torchplug.interruption import Interrupted

ENDLESS = ("fit", "--trainer.max_epochs", "1000000", "--data.batch_size", "64")
FORMS = {"one process": (), "two ranks": TWO_RANKS}


@pytest.fixture
def disk(tmp_path):
    """A disk of one megabyte."""
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 1024) as folder:
        yield folder


def _holds(directory):
    """Every checkpoint of a run is readable, no row is torn and no temporary file is left."""
    left = [path.name for path in directory.rglob("*.part")]
    return left == [] and rows(directory) and all(_readable(path) for path in directory.glob("checkpoints/*.ckpt"))


def _readable(path):
    return torch.load(path, weights_only=True)["epoch"] >= 0


def _two_checkpoints(folder):
    return len(list(folder.glob("runs/*/*/checkpoints/*.ckpt"))) == 2


@pytest.mark.fault("the disk gets full while a recipe trains")
@pytest.mark.parametrize("form", selected(FORMS, 1))
@pytest.mark.parametrize("left", selected([2000, 0, 6000, 12000, 20000], 1))
def test_a_disk_that_gets_full(run, disk, monkeypatch, form, left):
    process = start(disk, "linear_regression", *ENDLESS, *FORMS[form])
    assert wait_for(process, lambda: _two_checkpoints(disk)), finish(process, timeout=1)
    filling = fill(disk, left)
    status, _, errors = finish(process)
    (directory,) = run_directories(disk, "linear_regression")
    lines = [line for line in errors.splitlines() if "error: " in line]
    assert status == 3, errors
    assert len(lines) == 1
    assert "cannot be written (No space left on device); free space on its disk" in lines[0]
    assert form != "one process" or "Traceback" not in errors
    assert _holds(directory)
    filling.unlink()
    epochs = str(torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] + 9)
    monkeypatch.chdir(disk)
    alone = ["--trainer.devices", "1", "--trainer.strategy", "auto"]
    status, _, errors = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", epochs, *alone])
    monkeypatch.undo()
    assert (status, errors) == (0, "")


@pytest.mark.fault("the disk is full before a recipe's first checkpoint")
def test_a_disk_without_room_for_a_checkpoint(run, tmp_path, monkeypatch):
    (tmp_path / "disk").mkdir()
    with small_disk(tmp_path / "disk", 24) as disk:
        monkeypatch.chdir(disk)
        status, _, errors = run(["fit", "--trainer.max_epochs", "3"])
        (directory,) = run_directories(disk, "linear_regression")
        assert status == 3
        assert errors.count("\n") == 1
        assert "cannot be written (No space left on device); free space on its disk" in errors
        assert list(directory.rglob("*.part")) == []
        monkeypatch.chdir(tmp_path)


@pytest.mark.fault("the checkpoints folder is read-only")
def test_a_checkpoints_folder_that_cannot_be_written(run, tmp_path):
    assert run(["fit", "--trainer.max_epochs", "2"])[0] == 0
    (directory,) = run_directories(tmp_path, "linear_regression")
    with read_only(directory / "checkpoints"):
        status, _, errors = run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])
        assert (status, errors.count("\n")) == (3, 1)
        assert ".ckpt cannot be written (Read-only file system); make its folder writable; what it held" in errors
        assert _holds(directory)


@pytest.mark.fault("the checkpoints folder gets read-only while a recipe trains")
@pytest.mark.skipif(not EVERYTHING, reason="a process beside one that does the same: `make faults` tries it")
@pytest.mark.parametrize("form", FORMS)
def test_a_checkpoints_folder_that_gets_read_only(tmp_path, form):
    process = start(tmp_path, "linear_regression", *ENDLESS, *FORMS[form])
    assert wait_for(process, lambda: _two_checkpoints(tmp_path)), finish(process, timeout=1)
    (directory,) = run_directories(tmp_path, "linear_regression")
    try:
        with read_only(directory / "checkpoints"):
            status, _, errors = finish(process)
            assert status == 3, errors
            assert len([line for line in errors.splitlines() if "error: " in line]) == 1
            assert ".ckpt cannot be written (Read-only file system); make its folder writable" in errors
            assert form != "one process" or "Traceback" not in errors
            assert _holds(directory)
    finally:
        if process.poll() is None:
            kill(process)


@pytest.mark.fault("Ctrl-C in the first epoch on a full disk")
def test_an_interrupt_that_cannot_save(run, tmp_path, monkeypatch):
    def interrupted(module):
        if module.trainer.global_step:
            (directory,) = run_directories(tmp_path, "linear_regression")
            shutil.rmtree(directory / "checkpoints", ignore_errors=True)  # it may not exist yet
            (directory / "checkpoints").write_text("a file in the way")
            raise Interrupted

    monkeypatch.setattr("torchplug.module.ComponentModule.on_train_epoch_start", interrupted)
    status, _, errors = run(["fit", "--trainer.max_epochs", "3"])
    assert status == 3
    assert errors.count("\n") == 1
    assert "checkpoints cannot be written (File exists)" in errors
