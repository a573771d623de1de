"""The table of `make faults`: each kind of fault, how often it was tried, how often the documented behaviour held."""

import os
from functools import partial
from pathlib import Path

import pytest

from recipe_calls import call

_HEADER = (
    "# Faults\n\n"
    "`make faults` kills processes, sends signals, fills disks, corrupts files and feeds hostile input, and checks\n"
    "each time that the library behaves as documented. `make test` runs a selection. This table is from the last full\n"
    "run.\n\n"
    "A run that is killed resumes from the last state on disk, which is at most an epoch and a second old\n"
    "([files](execution.md#files)), to the bits of an uninterrupted one.\n\n"
)


def pytest_collection_modifyitems(items):
    """Report every fault test under the kind of fault that its marker names."""
    for item in items:
        if marker := item.get_closest_marker("fault"):
            item.user_properties.append(("fault", marker.args[0]))


def pytest_terminal_summary(terminalreporter):
    """Print the table, and write it to the file that FAULTS_TABLE names."""
    if os.environ.get("FAULTS") != "all":
        return
    tried, held = {}, {}
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.stats.get(outcome, ()):
            kind = dict(getattr(report, "user_properties", ())).get("fault")
            if kind is None or (outcome == "passed" and report.when != "call"):
                continue
            tried[kind] = tried.get(kind, 0) + 1
            held[kind] = held.get(kind, 0) + (outcome == "passed")
    lines = ["| fault | tried | held |", "| --- | ---: | ---: |"]
    lines += [f"| {kind} | {tried[kind]} | {held[kind]} |" for kind in sorted(tried)]
    lines.append(f"| **total** | **{sum(tried.values())}** | **{sum(held.values())}** |")
    table = "\n".join(lines) + "\n"
    terminalreporter.write(f"\n{table}")
    if target := os.environ.get("FAULTS_TABLE"):
        Path(target).write_text(_HEADER + table, encoding="utf-8")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a recipe's command line in this process, untracked: exit status, output, errors."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    return partial(call, capsys)
