"""Output that cannot be written as meant: the run goes on to its end, with all its files."""

import os
import subprocess
import sys

import pytest

import recipe_processes
from fault_tries import selected

FULL_BATCH = ["fit", "--model.optimizer", "newton", "--trainer.max_epochs", "5"]
MINIBATCHES = ["fit", "--data.batch_size", "64", "--trainer.max_epochs", "2"]


def is_complete(folder):
    """Whether the one run in a folder has all its files."""
    (run,) = recipe_processes.run_directories(folder, "linear_regression")
    names = ("config.yaml", "provenance.json", "metrics.jsonl", "coefficients.csv", "checkpoints/last.ckpt")
    return all((run / name).is_file() for name in names) and recipe_processes.rows(run)


@pytest.mark.fault("output that is not UTF-8")
@pytest.mark.parametrize("encoding", selected(["ascii", "latin-1", "cp437", "ascii:strict", "utf-16"], 1))
@pytest.mark.parametrize("arguments", selected([FULL_BATCH, MINIBATCHES], 1))
def test_encodings(tmp_path, encoding, arguments):
    recipe = recipe_processes.RECIPES / "linear_regression.py"
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": encoding}
    command = [sys.executable, str(recipe), *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=240, check=False)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert b"r" in done.stdout  # something arrived
    assert is_complete(tmp_path)


@pytest.mark.fault("a closed pipe, a full disk or no descriptor as output")
@pytest.mark.parametrize(
    "redirection",
    selected(["1>/dev/full", "1>&-", "| head -1", "2>/dev/full", "2>&-", "1>&- 2>&-", ">/dev/full 2>&1"], 2),
)
@pytest.mark.parametrize("arguments", selected([FULL_BATCH, MINIBATCHES], 1))
def test_redirections(tmp_path, redirection, arguments):
    recipe = recipe_processes.RECIPES / "linear_regression.py"
    command = f"{sys.executable} {recipe} {' '.join(arguments)} {redirection}; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if redirection == "1>/dev/full":
        assert "warning: part of the output is lost: No space left on device" in done.stderr
    assert is_complete(tmp_path)


@pytest.mark.fault("a full disk as output of a command that only prints")
@pytest.mark.parametrize("command", ["list", "describe adam", "plugins --json"])
def test_commands_that_only_print(command):
    line = f"{sys.executable} -m torchplug {command} > /dev/full"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3
    assert done.stderr == "torchplug: error: the output cannot be written: No space left on device\n"
    piped = f"{sys.executable} -m torchplug {command} | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", piped], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
