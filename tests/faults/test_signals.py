"""Ctrl-C and SIGTERM at any moment: exit status 130, one line, no traceback, and a run that goes on."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from fault_tries import EVERYTHING, selected, tries
from recipe_processes import TORCHRUN, TWO_RANKS, finish, processes_in, ranks_in, run, run_directories, start, wait_for

LONG = ("--trainer.max_epochs", "1000000")
SIGNALS = (signal.SIGTERM, signal.SIGINT)


def saved(folder):
    return list(folder.glob("runs/*/*/checkpoints/last.ckpt"))


def assert_ended(folder, status, printed, errors):
    assert status == 130, (status, printed, errors)
    assert "Traceback" not in errors, errors
    assert "Exception ignored" not in errors
    assert (printed + errors).count("interrupted") == 1, (printed, errors)
    assert processes_in(folder) == {}


@pytest.mark.fault("a signal at any moment, one process")
@pytest.mark.parametrize("seed", tries(quick=2, everything=40))
def test_one_process_ends_at_any_moment(tmp_path, seed):
    draw = random.Random(seed)
    delay, sent = draw.uniform(0.5, 7.0), SIGNALS[seed % 2]
    process = start(tmp_path, "mlp", "fit", *LONG)
    wait_for(process, lambda: processes_in(tmp_path))
    time.sleep(delay)
    begun = time.monotonic()
    os.killpg(process.pid, sent)
    status, printed, errors = finish(process, timeout=60)
    assert_ended(tmp_path, status, printed, errors)
    assert time.monotonic() - begun < 30  # promised are 5 s on a machine that does nothing else
    if saved(tmp_path):
        assert "resume with: python" in printed + errors
        status, _, errors = run(tmp_path, "mlp", "validate", "--ckpt_path", "last")
        assert status == 0, errors


CASES = [(who, sent) for sent in SIGNALS for who in (1, 0, "all")]


@pytest.mark.fault("a signal to one of two ranks, or to both")
@pytest.mark.parametrize("moment", tries(quick=1, everything=3))
@pytest.mark.parametrize(("who", "sent"), selected(CASES, quick=1))
def test_two_ranks_end_together(tmp_path, who, sent, moment):
    process = start(tmp_path, "mlp", "fit", *LONG, *TWO_RANKS)
    assert wait_for(process, lambda: saved(tmp_path))
    time.sleep(0.3 * moment)
    ranks = ranks_in(tmp_path, "mlp")
    assert sorted(ranks) == [0, 1]
    for rank in ranks if who == "all" else [who]:
        os.kill(ranks[rank], sent)
    status, printed, errors = finish(process, timeout=60)
    assert_ended(tmp_path, status, printed, errors)
    (last,) = saved(tmp_path)
    assert printed.splitlines()[-1].endswith(f"mlp.py fit --ckpt_path {last.relative_to(tmp_path)}")


@pytest.mark.fault("a signal while two ranks start")
@pytest.mark.parametrize("seed", tries(quick=0, everything=8))
def test_two_ranks_end_while_they_start(tmp_path, seed):
    draw = random.Random(seed)
    process = start(tmp_path, "mlp", "fit", *LONG, *TWO_RANKS)
    assert wait_for(process, lambda: run_directories(tmp_path, "mlp"))
    time.sleep(draw.uniform(0.0, 6.0))
    ranks = ranks_in(tmp_path, "mlp")
    os.kill(ranks[draw.choice(sorted(ranks))], SIGNALS[seed % 2])
    status, printed, errors = finish(process, timeout=90)
    assert_ended(tmp_path, status, printed, errors)


@pytest.mark.skipif(not EVERYTHING, reason="part of `make faults`")
@pytest.mark.fault("a signal to ranks of torchrun, or to its agent")
@pytest.mark.parametrize("sent", SIGNALS)
@pytest.mark.parametrize("who", [0, 1, "agent"])
def test_ranks_of_torchrun_end_together(tmp_path, who, sent):
    process = start(tmp_path, "mlp", "fit", *LONG, *TWO_RANKS, launcher=TORCHRUN)
    assert wait_for(process, lambda: saved(tmp_path))
    os.kill(process.pid if who == "agent" else ranks_in(tmp_path, "mlp")[who], sent)
    status, printed, errors = finish(process, timeout=90)
    assert status != 0
    assert printed.count("interrupted; resume with: python") == 1
    if who != "agent":
        assert errors.count("exitcode  : 130") == 2, errors
    assert processes_in(tmp_path) == {}


@pytest.mark.fault("a signal while a full-batch optimizer iterates")
@pytest.mark.parametrize("ranks", selected([(), TWO_RANKS], quick=1))
def test_a_full_batch_fit_ends_between_iterations(tmp_path, ranks):
    arguments = ("--model.optimizer", "levenberg_marquardt", "--model.loss", "mse", "--data.source", "diabetes")
    tolerance = [f"--model.optimizer.{name}_tolerance" for name in ("gradient", "step", "loss")]
    tolerance = (*(part for name in tolerance for part in (name, "0")), *LONG, *ranks)
    process = start(tmp_path, "mlp", "fit", *arguments, *tolerance)
    assert wait_for(process, lambda: saved(tmp_path)), finish(process)
    os.kill(process.pid, signal.SIGTERM)
    status, printed, errors = finish(process, timeout=90)
    assert_ended(tmp_path, status, printed, errors)


@pytest.mark.fault("Ctrl-C in the command torchplug")
@pytest.mark.parametrize("seed", tries(quick=1, everything=5))
def test_the_command_line_ends(tmp_path, seed):
    plugin = tmp_path / "slow"
    (plugin / "slow-1.0.dist-info").mkdir(parents=True)
    (plugin / "slow-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (plugin / "slow-1.0.dist-info" / "entry_points.txt").write_text("[torchplug]\nslow = slow_plugin\n")
    mark = tmp_path / "imported"
    (plugin / "slow_plugin.py").write_text(f"import time\nopen({str(mark)!r}, 'w')\ntime.sleep(100)\n")
    paths = os.pathsep.join(filter(None, [str(plugin), os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(
        [sys.executable, "-m", "torchplug", "list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert wait_for(process, mark.is_file)
    time.sleep(0.05 * seed)
    os.kill(process.pid, signal.SIGINT)
    assert finish(process, timeout=30) == (130, "", "torchplug: interrupted\n")
