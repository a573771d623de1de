"""Ranks that differ, refuse, fail or are killed: one line names the rank, and no process is left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars
import pytest
import torch

from fault_tries import EVERYTHING, selected
from recipe_processes import RECIPES, TORCHRUN, TWO_RANKS, finish, kill, processes_in, ranks_in, run, start, wait_for

BY_RANK = Path(__file__).parents[1] / "by_rank.py"
LAUNCHERS = {"lightning": (sys.executable,), "torchrun": TORCHRUN}
FIT = ("fit", "--data.source", "table.csv", "--data.target", "y", "--trainer.max_epochs", "6", *TWO_RANKS)


@pytest.fixture(autouse=True)
def _tables(tmp_path):
    rows = torch.arange(80.0)
    table = {"x": rows.sin().tolist(), "z": (rows * 7 % 11).tolist(), "y": (rows * 5 % 13).tolist()}
    frame = polars.DataFrame(table)
    frame.write_csv(tmp_path / "table.csv")
    frame.write_csv(tmp_path / "copy.csv")
    frame.head(40).write_csv(tmp_path / "half.csv")
    frame.with_columns(polars.col("x") + 1).write_csv(tmp_path / "other.csv")
    for version in ("1.0", "2.0"):
        info = tmp_path / f"plugins-{version}" / f"shapes-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shapes\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[torchplug]\nshapes = shapes_plugin\n")
        (info.parent / "shapes_plugin.py").write_text("")


def differing(folder, *more, rank=1, launcher="lightning", arguments=FIT):
    """Run linear_regression with more arguments on one rank: exit status, output, errors, seconds."""
    begun = time.monotonic()
    command = [str(BY_RANK), str(RECIPES / "linear_regression.py"), *arguments, "--on", str(rank), *more]
    process = subprocess.Popen(
        [*LAUNCHERS[launcher], *command],
        cwd=folder,
        env={**os.environ, "WANDB_MODE": "disabled", "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    result = finish(process, timeout=150)
    assert processes_in(folder) == {}
    return (*result, time.monotonic() - begun)


def spoken(errors):
    """The lines that a recipe has printed; torchrun's agent prints more."""
    return [line for line in errors.splitlines() if line.startswith("linear_regression.py: ")]


DIFFERENT = {
    "another loss": (["--model.loss", "l1"], "rank 1 differs from rank 0 in --model.loss: l1 instead of mse"),
    "fewer rows": (["--data.source", "half.csv"], "rank 1 differs from rank 0 in its data: 24 train"),
    "other rows": (["--data.source", "other.csv"], "rank 1 differs from rank 0 in the content of its data"),
    "another optimizer": (["--model.optimizer", "sgd"], "rank 1 differs from rank 0 in --model.optimizer: sgd"),
    "another seed": (["--seed_everything", "7"], "rank 1 differs from rank 0 in --seed_everything: 7 instead of 0"),
    "another plugin": (["path=plugins-1.0"], "rank 1 differs from rank 0 in the version of shapes: 1.0"),
    "a missing file": (["--data.source", "none.csv"], "rank 1: no file none.csv"),
    "a mistyped name": (["--model.optimizer", "adm"], "rank 1: --model.optimizer: unknown optimizer 'adm'"),
}


@pytest.mark.fault("a rank with other data, settings or packages, or that refuses")
@pytest.mark.parametrize(
    ("name", "launcher"),
    selected(
        [*((name, "lightning") for name in DIFFERENT), ("fewer rows", "torchrun"), ("a missing file", "torchrun")],
        quick=1,
    ),
)
def test_a_rank_that_differs_is_named(tmp_path, name, launcher):
    more, expected = DIFFERENT[name]
    status, _, errors, _ = differing(tmp_path, *more, launcher=launcher)
    (line,) = spoken(errors)
    assert line.startswith(f"linear_regression.py: error: {expected}")
    assert status == (2 if launcher == "lightning" else 1)
    assert list(tmp_path.glob("runs/*/*")) == []
    if launcher == "lightning":
        assert errors == f"{line}\n"
    else:
        assert "exitcode  : 2" in errors


@pytest.mark.skipif(not EVERYTHING, reason="part of `make faults`")
@pytest.mark.fault("a rank with other data, settings or packages, or that refuses")
def test_two_versions_of_a_plugin_and_a_path_that_differs(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "plugins-1.0"), *sys.path[:0]])}
    if inherited := os.environ.get("PYTHONPATH"):
        environment["PYTHONPATH"] += os.pathsep + inherited
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", environment["PYTHONPATH"])
        status, _, errors, _ = differing(tmp_path, "path=plugins-2.0")
        assert status == 2
        assert "in the version of shapes: 2.0" in errors
        status, _, errors, _ = differing(tmp_path, "--data.source", "copy.csv")
        assert status == 0, errors


FAULTS = {
    "7": ("rank 1 ended early, with exit status 7; resume with: python ", 3),
    "0": ("rank 1 ended early, with exit status 0; resume with: python ", 3),
    "stopped": ("rank 1: it cannot go on", 3),
    "defect": ("rank 1 failed, and its traceback says why: ZeroDivisionError: a defect of a plugin; go on with: ", 1),
}


@pytest.mark.fault("a rank that ends or fails on the way")
@pytest.mark.parametrize("fault", selected(FAULTS, quick=0))
def test_a_rank_that_fails_is_named(tmp_path, fault):
    expected, exit_status = FAULTS[fault]
    status, _, errors, _ = differing(tmp_path, f"fault={fault}")
    (line,) = spoken(errors)
    assert line.startswith(f"linear_regression.py: error: {expected}")
    assert status == exit_status
    assert errors.count("Traceback") == (fault == "defect")


@pytest.mark.skipif(not EVERYTHING, reason="part of `make faults`")
@pytest.mark.fault("a rank that ends or fails on the way")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_rank_of_torchrun_that_fails_is_named(tmp_path, fault):
    status, _, errors, _ = differing(tmp_path, f"fault={fault}", launcher="torchrun")
    (line,) = spoken(errors)
    assert line.startswith("linear_regression.py: error: rank 1")
    assert status != 0
    assert errors.count("gloo") == 0


KILLED = [(1, "lightning"), (0, "lightning"), (1, "torchrun"), (0, "torchrun")]


@pytest.mark.fault("a rank that is killed")
@pytest.mark.parametrize(("rank", "launcher"), selected(KILLED, quick=1))
def test_a_rank_that_is_killed_is_named(tmp_path, rank, launcher):
    process = start(tmp_path, "mlp", "fit", "--trainer.max_epochs", "1000000", *TWO_RANKS, launcher=LAUNCHERS[launcher])
    assert wait_for(process, lambda: list(tmp_path.glob("runs/*/*/checkpoints/last.ckpt")))
    os.kill(ranks_in(tmp_path, "mlp")[rank], signal.SIGKILL)
    status, _, errors = finish(process, timeout=90)
    assert status == (1 if launcher == "torchrun" else 3 if rank == 1 else -signal.SIGKILL)
    (line,) = [line for line in errors.splitlines() if line.startswith("mlp.py: error: ")]
    assert f"rank {rank} " in line
    assert "resume with: python " in line
    assert "gloo" not in errors
    assert launcher == "torchrun" or "Traceback" not in errors
    deadline = time.monotonic() + 20
    while processes_in(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_in(tmp_path) == {}


def two_agents(folder, *arguments):
    """Start a recipe through two agents of torchrun, as on two nodes."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one_each = ("--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port))
    nodes = ("--trainer.accelerator", "cpu", "--trainer.num_nodes", "2", "--trainer.devices", "1")
    return [
        start(
            folder,
            "linear_regression",
            "fit",
            *arguments,
            *nodes,
            "--trainer.strategy",
            "ddp",
            launcher=(sys.executable, "-m", "torch.distributed.run", *one_each, "--node-rank", str(node)),
        )
        for node in (0, 1)
    ]


def weights(folder):
    (file,) = folder.glob("runs/*/*/checkpoints/last.ckpt")
    return torch.load(file, weights_only=True)["state_dict"]


DATA = ("--data.source", "../table.csv", "--data.target", "y", "--data.split", "[0.8,0.2,0]", "--data.batch_size", "8")


@pytest.mark.skipif(not EVERYTHING, reason="part of `make faults`")
@pytest.mark.fault("two agents on one machine as two nodes")
def test_two_agents_train_to_the_weights_of_one_process(tmp_path):
    folders = [tmp_path / name for name in ("two", "one")]
    for folder in folders:
        folder.mkdir()
    fit = (*DATA, "--trainer.max_epochs", "4")
    for process in two_agents(folders[0], *fit):
        status, _, errors = finish(process)
        assert status == 0, errors
    status, _, errors = run(folders[1], "linear_regression", "fit", *fit, "--trainer.accumulate_grad_batches", "2")
    assert status == 0, errors
    two, one = map(weights, folders)
    assert all(torch.equal(two[name], one[name]) for name in one)


@pytest.mark.skipif(not EVERYTHING, reason="part of `make faults`")
@pytest.mark.fault("two agents on one machine as two nodes")
def test_a_signal_to_a_rank_of_one_agent_ends_both(tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    agents = two_agents(folder, *DATA, "--trainer.max_epochs", "1000000")
    try:
        assert wait_for(agents[0], lambda: list(folder.glob("runs/*/*/checkpoints/last.ckpt")))
        os.kill(ranks_in(folder, "linear_regression")[1], signal.SIGTERM)
        results = [finish(agent, timeout=90) for agent in agents]
    finally:
        for agent in agents:
            if agent.poll() is None:
                kill(agent)
    assert all(status != 0 for status, _, _ in results)
    assert "".join(printed for _, printed, _ in results).count("interrupted; resume with: python") == 1
    assert all("exitcode  : 130" in errors for _, _, errors in results)
    assert processes_in(folder) == {}
