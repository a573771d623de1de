"""Recipes as a shell runs them: exit status, streams, signals, several ranks."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"
TWO_RANKS = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"]


def start(folder, *arguments, launcher=(sys.executable,)):
    environment = os.environ | {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    return subprocess.Popen(
        [*launcher, str(RECIPES / "mlp.py"), *arguments],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # who runs the tests in a shell's background ignores it, and a child would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_a_refusal(tmp_path):
    process = start(tmp_path, "--model.optimizer", "adm", *TWO_RANKS)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert printed == ""
    assert errors == "mlp.py: error: --model.optimizer: unknown optimizer 'adm': did you mean adam or adamw?\n"


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_ranks_share_one_run(tmp_path, launcher):
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")
    command = torchrun if launcher == "torchrun" else (sys.executable,)
    process = start(tmp_path, "fit", "--trainer.max_epochs", "1", *TWO_RANKS, launcher=command)
    printed, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    (directory,) = (tmp_path / "runs" / "mlp").iterdir()
    assert printed.count(f"run: runs/mlp/{directory.name}") == 1
    assert (directory / "checkpoints" / "last.ckpt").is_file()


def test_ctrl_c_leaves_a_resumable_run(tmp_path):
    process = start(tmp_path, "fit", "--trainer.max_epochs", "100000")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/mlp/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    (checkpoint,) = tmp_path.glob("runs/mlp/*/checkpoints/last.ckpt")
    assert printed.splitlines()[-1].endswith(f"mlp.py fit --ckpt_path {checkpoint.relative_to(tmp_path)}")
    again = start(tmp_path, "validate", "--ckpt_path", "last")
    printed, errors = again.communicate(timeout=120)
    assert again.returncode == 0, errors
