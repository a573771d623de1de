"""Recipes as a shell runs them: exit status, streams, signals, several ranks."""

import os
import signal
import sys

import pytest

from recipe_processes import TORCHRUN, TWO_RANKS, finish, run, start, wait_for


def test_a_refusal(tmp_path):
    status, printed, errors = run(tmp_path, "mlp", "--model.optimizer", "adm", *TWO_RANKS)
    assert status == 2
    assert printed == ""
    line = "mlp.py: error: --model.optimizer: unknown optimizer 'adm': did you mean adam or adamw"
    assert errors.startswith(line)
    assert errors.count("\n") == 1


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_ranks_share_one_run(tmp_path, launcher):
    command = TORCHRUN if launcher == "torchrun" else (sys.executable,)
    process = start(tmp_path, "mlp", "fit", "--trainer.max_epochs", "1", *TWO_RANKS, launcher=command)
    status, printed, errors = finish(process)
    assert status == 0, errors
    (directory,) = (tmp_path / "runs" / "mlp").iterdir()
    assert printed.count(f"run: runs/mlp/{directory.name}") == 1
    assert (directory / "checkpoints" / "last.ckpt").is_file()


def test_ctrl_c_leaves_a_resumable_run(tmp_path):
    process = start(tmp_path, "mlp", "fit", "--trainer.max_epochs", "100000")
    assert wait_for(process, lambda: list(tmp_path.glob("runs/mlp/*/checkpoints/last.ckpt")))
    os.killpg(process.pid, signal.SIGINT)
    status, printed, errors = finish(process)
    assert status == 130, errors
    assert "Traceback" not in errors
    (checkpoint,) = tmp_path.glob("runs/mlp/*/checkpoints/last.ckpt")
    assert printed.splitlines()[-1].endswith(f"mlp.py fit --ckpt_path {checkpoint.relative_to(tmp_path)}")
    status, _, errors = run(tmp_path, "mlp", "validate", "--ckpt_path", "last")
    assert status == 0, errors
