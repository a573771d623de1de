"""SIGKILL while checkpoints are saved, with a temporary folder on another file system than the runs."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fault_tries import tries
from recipe_processes import kill, rows, run_directories, start, wait_for
from torchplug.tracking.checkpoint_file import read_checkpoint

SAVING = (
    "fit --trainer.max_epochs -1 --trainer.max_steps 1000000 --model.model.hidden [1500,1500] --data.batch_size full"
)


@pytest.fixture
def elsewhere(tmp_path):
    """A temporary folder on another file system, where this machine has one."""
    folder = Path("/dev/shm")
    if not folder.is_dir() or folder.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not another file system here")
    made = Path(tempfile.mkdtemp(dir=folder))
    yield made
    shutil.rmtree(made)


@pytest.mark.fault("SIGKILL inside a save, temporary files on another file system")
@pytest.mark.parametrize("seed", tries(1, 25))
def test_a_kill_inside_a_save(tmp_path, elsewhere, seed):
    process = start(tmp_path, "mlp", *SAVING.split(), TMPDIR=str(elsewhere))

    def saves():
        return [path for path in tmp_path.glob("runs/mlp/*/checkpoints/.*.part") if path.stat().st_size]

    def saved():
        return len(list(tmp_path.glob("runs/mlp/*/checkpoints/*.ckpt"))) == 2

    assert wait_for(process, saved)
    for _ in range(random.Random(seed).randrange(1, 4)):  # not always the same save
        wait_for(process, lambda: not saves())
        inside = _soon(process, saves)
    kill(process)
    (directory,) = run_directories(tmp_path, "mlp")
    assert inside
    checkpoints = directory / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    for name in ("best.ckpt", "last.ckpt"):
        assert read_checkpoint(checkpoints / name)["epoch"] >= 0
    assert [path.name for path in elsewhere.iterdir() if path.stat().st_size > 100_000] == []
    for name in ("config.yaml", "provenance.json"):
        assert (directory / name).is_file()
    assert json.loads((directory / "provenance.json").read_text(encoding="utf-8"))
    assert rows(directory)


@pytest.mark.fault("the temporary files of a killed save")
@pytest.mark.parametrize("seed", tries(1, 5))
def test_what_a_killed_save_left_is_removed_by_the_next(run, tmp_path, seed):
    assert run(["fit", "--trainer.max_epochs", "2"])[0] == 0
    (directory,) = run_directories(tmp_path, "linear_regression")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for name in ("last.ckpt", "best.ckpt"):
        left = directory / "checkpoints" / f".{name}.{ended.pid}.part"
        left.write_bytes(os.urandom(random.Random(seed).randrange(9999)))
    assert run(["fit", "--ckpt_path", "last", "--trainer.max_epochs", "4"])[0] == 0
    assert sorted(path.name for path in (directory / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def _soon(process, found):
    """Wait without a pause between two looks, since a save is short."""
    while process.poll() is None:
        if answer := found():
            return answer
    return None
