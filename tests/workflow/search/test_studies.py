"""Studies that several processes work on, one after the other or at once."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import polars as pl
import pytest

import torchplug
from torchplug.errors import CheckpointError, ConfigurationError
from workflow.search.searches import RATES, data, linear, search

RANDOM = {"model.optimizer.lr": "log(1e-4,1e-1)"}
LONG = {"random": RANDOM, "sampler": "tpe", "trials": 24, "epochs": 20, "name": "search"}
"""Batches of 8, so that some are done before others."""
_CHILD = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
from workflow.search.searches import search
folder, settings = pickle.load(sys.stdin.buffer)
search(folder, **settings)
"""


@contextmanager
def started(folder, **settings):
    """The search in a process of its own, which ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    process.stdin.write(pickle.dumps((folder, settings)))
    process.stdin.close()
    process.stdin = None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ended(folder):
    """The numbers of the trials that have ended, as often as they have."""
    journals = list(folder.glob("search/*/study.log"))
    text = journals[0].read_text() if journals else ""
    return text.count('"result"')


def wait_for(folder, trials, process):
    """Wait until so many trials have ended."""
    deadline = time.monotonic() + 120
    while ended(folder) < trials and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, process.stderr.read().decode()


def test_a_search_that_was_killed_repeats_no_trial_that_has_ended(tmp_path):
    with started(tmp_path, **LONG) as process:
        wait_for(tmp_path, 8, process)
    before = ended(tmp_path)
    assert 8 <= before < 24
    found = search(tmp_path, resume="last", **LONG)
    assert found.trials["trial"].to_list() == list(range(24))
    assert found.is_finished
    assert ended(tmp_path) == 24
    assert len(list(tmp_path.glob("search/*/"))) == 1
    rows = found.run.metrics.group_by("trial").len()
    assert rows.filter(pl.col("len") != 20).is_empty()
    again = search(tmp_path, resume=found.run.path, **LONG)
    assert again.trials.equals(found.trials)
    assert ended(tmp_path) == 24


def test_more_trials_go_on_with_those_before(tmp_path):
    few = search(tmp_path, random=RANDOM, trials=3)
    more = search(tmp_path, random=RANDOM, trials=5, resume=few.run.path)
    assert more.trials.head(3).equals(few.trials)
    whole = search(tmp_path / "other", random=RANDOM, trials=5)
    assert more.trials["model.optimizer.lr"].to_list() == whole.trials["model.optimizer.lr"].to_list()
    assert more.trials["val/loss"].to_list() == pytest.approx(whole.trials["val/loss"].to_list(), rel=1e-4)


def test_ctrl_c_keeps_what_is_done(tmp_path):
    with started(tmp_path, **LONG) as process:
        wait_for(tmp_path, 8, process)
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1].decode()
    assert process.returncode != 0
    assert "KeyboardInterrupt: the search was interrupted: go on with resume=" in errors
    (folder,) = tmp_path.glob("search/*/")
    done = pl.read_csv(folder / "trials.csv").height
    assert 8 <= done < 24
    assert (folder / "best.yaml").is_file()
    assert not (folder / "outcome.json").exists()
    found = search(tmp_path, resume=folder, **LONG)
    assert found.trials["trial"].to_list() == list(range(24))
    assert ended(tmp_path) == 24


def test_two_processes_share_one_journal(tmp_path):
    with started(tmp_path, **LONG) as process:
        wait_for(tmp_path, 1, process)
        found = search(tmp_path, resume="last", **LONG)
        errors = process.communicate()[1].decode()
    assert process.returncode == 0, errors
    assert ended(tmp_path) == 24
    assert len(list(found.run.path.glob("workers/*.lock"))) == 3  # and the one for taking trials
    table = pl.read_csv(found.run.path / "trials.csv")
    assert table["trial"].to_list() == list(range(24))
    assert torchplug.Run(found.run.path).outcome["reason"] == "24 trials: 24 complete"
    rows = found.run.metrics.group_by("trial").len()
    assert rows.height == 24
    assert rows.filter(pl.col("len") != 20).is_empty()


def test_jobs_share_the_trials(tmp_path):
    alone = search(tmp_path / "alone", random=RANDOM, trials=6)
    shared = search(tmp_path / "shared", random=RANDOM, trials=6, jobs=2)
    assert not [note for note in shared.notes if "ended early" in note]
    assert shared.trials["model.optimizer.lr"].to_list() == alone.trials["model.optimizer.lr"].to_list()
    assert shared.trials["val/loss"].to_list() == pytest.approx(alone.trials["val/loss"].to_list(), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"grid": {"model.optimizer.lr": [0.003, 0.03]}},
            "search of model.optimizer.lr was 0.003,0.03,0.3, not 0.003,0.03",
        ),
        ({"grid": {**RATES, "data.batch_size": [8]}}, "search of data.batch_size was absent, not 8"),
        ({"config": linear(loss="l1")}, "model/loss was torchplug:mse, not torchplug:l1"),
        ({"epochs": 3}, "trainer/max_epochs was 2, not 3"),
        ({"tables": data(140)}, "table was"),
        ({"name": "other"}, "recipe was search, not other"),
        ({"seed": 1}, "seed was 0, not 1"),
        ({"folds": 2}, "folds was absent, not 2"),
        ({"metric": "val/mae"}, "metric was val/loss, not val/mae"),
    ],
)
def test_a_study_of_another_search_is_refused(tmp_path, changes, reason):
    url = f"sqlite:///{tmp_path}/study.db"
    first = search(tmp_path / "runs", grid=RATES, storage=url, study="one")
    with pytest.raises(CheckpointError) as caught:
        search(tmp_path / "other", **{"grid": RATES, "storage": url, "study": "one", **changes})
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "other").exists()
    if "name" not in changes:
        with pytest.raises(CheckpointError):
            search(tmp_path / "runs", **{"grid": RATES, "resume": first.run.path, **changes})


def test_a_run_of_another_kind_is_not_resumed(tmp_path):
    run = torchplug.fit(
        linear(), data(), trainer={"max_epochs": 1}, tracking={"mode": "disabled"}, root=tmp_path / "fits"
    ).run
    with pytest.raises(ConfigurationError, match="is no run of a search"):
        search(tmp_path / "runs", grid=RATES, resume=run.path)


def works_on(tmp_path, url):
    """Two run directories, as on two machines, share a study in a database."""
    first = search(tmp_path / "one", random=RANDOM, trials=4, storage=url)
    second = search(tmp_path / "two", random=RANDOM, trials=6, storage=url)
    assert second.trials.head(4).equals(first.trials)
    assert second.trials.height == 6
    assert {row["trial"] for row in second.run.metrics.to_dicts()} == {4, 5}
    again = search(tmp_path / "one", random=RANDOM, trials=6, resume=first.run.path)
    assert again.trials.equals(second.trials)


def test_a_study_in_a_database(tmp_path):
    works_on(tmp_path, f"sqlite:///{tmp_path}/study.db")


@pytest.fixture
def postgresql(tmp_path):
    """The URL of a PostgreSQL server of its own, on a socket in a folder."""
    pytest.importorskip("psycopg", reason="psycopg, PostgreSQL's driver, is not installed")
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    if os.geteuid() == 0:
        pytest.skip("PostgreSQL does not run as root")
    folder, socket = tmp_path / "cluster", tmp_path / "s"
    socket.mkdir()
    subprocess.run(["initdb", "-D", folder, "-U", "torchplug", "-A", "trust"], check=True, capture_output=True)
    options = f"-k {socket} -c listen_addresses=''"
    subprocess.run(["pg_ctl", "-D", folder, "-o", options, "-w", "-l", tmp_path / "log", "start"], check=True)
    yield f"postgresql+psycopg://torchplug@/postgres?host={socket}"
    subprocess.run(["pg_ctl", "-D", folder, "-m", "immediate", "stop"], check=True)


def test_a_study_in_postgresql(tmp_path, postgresql):
    works_on(tmp_path, postgresql)
