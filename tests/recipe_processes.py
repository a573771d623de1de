"""Recipes as a shell starts them: in processes of their own, to be waited for, signalled or killed."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from many.interrupting import wait_for_rows

RECIPES = Path(__file__).parents[1] / "recipes"
TWO_RANKS = ("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone")


def start(folder, recipe, *arguments, launcher=(sys.executable,), **environment):
    """Start a recipe in a folder, in a session of its own, untracked unless the environment says otherwise."""
    given = {"WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default", **environment}
    return subprocess.Popen(
        [*launcher, str(RECIPES / f"{recipe}.py"), *map(str, arguments)],
        cwd=folder,
        env={**os.environ, **given},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # a test run in a shell's background ignores SIGINT, and its children would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def finish(process, timeout=240):
    """Wait for a recipe: its exit status, output and errors. One that hangs is killed, with all that it started."""
    try:
        printed, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        raise
    return process.returncode, printed, errors


def run(folder, recipe, *arguments, timeout=240, **environment):
    """Run a recipe to its end: exit status, output and errors."""
    return finish(start(folder, recipe, *arguments, **environment), timeout)


def interrupted(folder, recipe, *arguments, rows=30):
    """Ctrl-C once a method has written so many rows of metrics: the arguments that go on with it, as printed."""
    process = start(folder, recipe, *arguments)
    assert wait_for_rows(Path(folder) / "runs", rows, process)
    process.send_signal(signal.SIGINT)
    status, printed, errors = finish(process)
    assert (status, errors) == (130, "")
    return shlex.split(re.search(r"interrupted; go on with: python \S+ (.*)", printed)[1])


def kill(process):
    """SIGKILL to a recipe and to everything that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def processes_in(folder):
    """The processes but this one that work in a folder: command line and environment by number (Linux)."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and Path(os.readlink(entry / "cwd")) == Path(folder).resolve():
                command = (entry / "cmdline").read_bytes().decode().split("\0")
                pairs = (entry / "environ").read_bytes().decode(errors="replace").split("\0")
                found[int(entry.name)] = (command, dict(pair.partition("=")[::2] for pair in pairs))
        except OSError:
            continue
    return found


def ranks_in(folder, recipe):
    """The process numbers of a recipe's ranks that work in a folder, by rank."""
    return {
        int(environment.get("RANK", environment.get("LOCAL_RANK", "0"))): number
        for number, (command, environment) in processes_in(folder).items()
        if any(part.endswith(f"{recipe}.py") for part in command) and "torch.distributed.run" not in command
    }


def wait_for(process, found, timeout=120):
    """Wait until `found()` is true, or the recipe has ended; returns the last answer."""
    deadline = time.monotonic() + timeout
    while not (answer := found()) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return answer


def run_directories(folder, recipe):
    """The run directories that a recipe has left in a folder, oldest first."""
    return sorted((Path(folder) / "runs" / recipe).glob("*/"))


def rows(directory):
    """The rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
