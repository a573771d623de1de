"""The command `compare`."""

from pathlib import Path

import pytest


def fitted(run, rate):
    status, printed, _ = run(["--trainer.max_epochs", "2", "--model.optimizer.lr", rate])
    assert status == 0
    return printed.split("run: ")[-1].strip()


def test_runs_are_compared(run):
    first, _ = fitted(run, "0.01"), fitted(run, "0.1")
    status, printed, _ = run(["compare", first, "last"])
    assert status == 0
    assert "model/optimizer/lr" in printed
    assert "val/rmse" in printed
    assert Path("comparison.png").is_file()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "nothing to compare with 0 run"),
        (["last", "last"], "there is no run in runs/linear_regression yet"),
        (["here", "there"], "here is no run directory"),
    ],
)
def test_what_cannot_be_compared_is_refused(run, words, reason):
    status, _, errors = run(["compare", *words])
    assert status == 2
    assert reason in errors
