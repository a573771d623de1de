import json
import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

from torchplug.registry import Entry
from torchplug.registry.component import Component, Family
from torchplug.registry.discovery import Plugin
from torchplug.tracking import provenance as module
from torchplug.tracking.provenance import provenance


def _collect():
    plugins = [Plugin("torchplug", "0.1.0", "loaded"), Plugin("other", "2", "broken", error="ImportError")]
    adam = Component("adam", "torchplug.components.builtin:Adam", "Adam.")
    return provenance(plugins, [Entry(Family.OPTIMIZER, adam, "torchplug", "0.1.0")], "abc", 7)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]

    def git(*arguments):
        return subprocess.run(["git", *who, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "tracked").write_text("1")
    git("add", "tracked")
    git("commit", "-q", "-m", "first")
    return git


def test_everything_needed_to_repeat_a_run_is_there(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipes/mlp.py", "fit", "--data.source", "my file.csv"])
    record = json.loads(json.dumps(_collect()))  # plain types only
    assert record["command"] == "recipes/mlp.py fit --data.source 'my file.csv'"
    assert record["started"].endswith("+00:00")
    assert (record["seed"], record["data"]) == (7, "abc")
    assert record["python"] == platform.python_version()
    for name in ("torchplug", "torch", "lightning", "torchmetrics"):
        assert record[name] == version(name)
    assert record["plugins"] == [
        {"distribution": "torchplug", "version": "0.1.0", "status": "loaded"},
        {"distribution": "other", "version": "2", "status": "broken"},
    ]
    assert record["components"] == [
        {"family": "optimizer", "name": "torchplug:adam", "distribution": "torchplug", "version": "0.1.0"}
    ]
    assert {"system", "machine", "cpus", "cuda", "gpus"} == record["platform"].keys()


def test_the_commit_and_whether_it_is_what_ran(repository, tmp_path):
    commit = repository("rev-parse", "HEAD")
    (tmp_path / "untracked").write_text("runs and data do not make the code another one")
    assert _collect()["git"] == {"commit": commit, "dirty": False}
    (tmp_path / "tracked").write_text("2")
    assert _collect()["git"] == {"commit": commit, "dirty": True}


def test_outside_a_repository_or_without_git_there_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert _collect()["git"] is None
    monkeypatch.setenv("PATH", "")
    assert _collect()["git"] is None


def test_git_that_does_not_answer_costs_the_run_nothing(repository, monkeypatch):
    def slow(command, timeout, **settings):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(module.subprocess, "run", slow)
    assert _collect()["git"] is None
