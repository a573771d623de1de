"""Runs that are killed at any moment, and resumed until they end: as if they had not been."""

import os
import random
import signal
import time

import pytest
import torch

from fault_tries import EVERYTHING, tries
from recipe_processes import TWO_RANKS, finish, kill, rows, run, run_directories, start, wait_for

JOBS = {
    "linear": ("linear_regression", ("--trainer.max_epochs", "300")),
    "logistic": ("logistic_regression", ("--trainer.max_epochs", "150")),
    "mlp as shipped": ("mlp", ("--trainer.max_epochs", "60")),
    "mlp by single steps": ("mlp", ("--trainer.max_epochs", "30", "--model.steps_per_execution", "1")),
    "levenberg_marquardt": (
        "mlp",
        (
            *("--data.source", "diabetes", "--model.loss", "mse", "--model.optimizer", "levenberg_marquardt"),
            *("--trainer.max_epochs", "40", "--model.model.hidden", "[8]"),
        ),
    ),
    "two ranks": ("mlp", ("--trainer.max_epochs", "20", *TWO_RANKS)),
    "two ranks that step alone": ("mlp", ("--trainer.max_epochs", "20", "--model.sync_every", "4", *TWO_RANKS)),
    "max_steps within an epoch": ("mlp", ("--trainer.max_epochs", "-1", "--trainer.max_steps", "500")),
}
_WHOLE = {}


def whole_run(name, folder_of_all):
    """The uninterrupted run of a job, made once."""
    if name not in _WHOLE:
        recipe, flags = JOBS[name]
        folder = folder_of_all.mktemp("whole")
        status, _, errors = run(folder, recipe, "fit", *flags)
        assert status in (0, 3), errors
        _WHOLE[name] = run_directories(folder, recipe)[0]
    return _WHOLE[name]


def content(directory, name):
    checkpoint = torch.load(directory / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return {
        part: checkpoint[part] for part in ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step")
    }


def equal(first, second):
    """Whether two nests of tensors and plain values are equal, bit for bit."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


def resume_until_done(folder, recipe, flags, stop, times):
    """Start a run, `stop` it so often, resuming it in between, and let it end; returns its directory."""
    arguments = ["fit", *flags]
    for _ in range(times):
        process = start(folder, recipe, *arguments)
        if stop(process, folder / "runs" / recipe):
            break
        arguments = ["fit", "--ckpt_path", "last"]
    (directory,) = run_directories(folder, recipe)
    if not (directory / "outcome.json").exists():
        status, _, errors = run(folder, recipe, *arguments)
        assert status in (0, 3), errors
    (directory,) = run_directories(folder, recipe)
    return directory


def assert_as_if_uninterrupted(directory, whole):
    assert rows(directory) == rows(whole)
    for checkpoint in ("last", "best"):
        assert equal(content(directory, checkpoint), content(whole, checkpoint)), checkpoint
    for file in ("outcome.json", "coefficients.csv"):
        if (whole / file).exists():
            assert (directory / file).read_text() == (whole / file).read_text()


def cases(kind, quick, everything):
    """Some jobs, or all of them in `make faults`, each with several seeds."""
    names = JOBS if EVERYTHING else quick
    return [
        pytest.param(name, seed, marks=pytest.mark.fault(f"{kind} and resume until done: {name}"))
        for name in names
        for seed in tries(1, everything)
    ]


@pytest.mark.parametrize(("name", "seed"), cases("kill -9", ("linear", "mlp as shipped"), 3))
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tmp_path, tmp_path_factory, name, seed):
    recipe, flags = JOBS[name]
    whole = whole_run(name, tmp_path_factory)
    chance = random.Random(f"{name} {seed}")

    def stop(process, runs):
        assert wait_for(process, lambda: list(runs.glob("*/checkpoints/last.ckpt")))
        time.sleep(chance.uniform(0, 1.0))
        kill(process)

    directory = resume_until_done(tmp_path, recipe, flags, stop, chance.randint(1, 3))
    assert_as_if_uninterrupted(directory, whole)


@pytest.mark.parametrize(("name", "seed"), cases("Ctrl-C or SIGTERM", ("two ranks",), 2))
def test_a_run_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path, tmp_path_factory, name, seed):
    recipe, flags = JOBS[name]
    whole = whole_run(name, tmp_path_factory)
    chance = random.Random(f"{name} {seed} interrupted")

    def stop(process, runs):
        resumed = bool(list(runs.glob("*/metrics.jsonl")))
        assert wait_for(process, lambda: list(runs.glob("*/metrics.jsonl")))
        # before torchplug is imported a signal is Python's own affair
        time.sleep(chance.uniform(3, 5) if resumed else chance.uniform(0, 1))
        os.killpg(process.pid, chance.choice((signal.SIGTERM, signal.SIGINT)))
        status, printed, errors = finish(process)
        if status in (0, 3):  # it was done before
            return True
        assert status == 130, errors
        assert "Traceback" not in errors
        assert "interrupted" in printed + errors
        return False

    assert_as_if_uninterrupted(resume_until_done(tmp_path, recipe, flags, stop, 2), whole)
