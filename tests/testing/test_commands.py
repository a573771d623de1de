"""`torchplug check`: its table, its objects, its exit status and its refusals."""

import json
import sys

import pytest

from torchplug.cli import main

LOSSES = '''
from torchplug import Loss


class Good(Loss):
    """Squared error.

        Σ (z − y)²

    Shape:
        scores (n, k), target (n, k) → (n,).

    Reference: Gauss (1809), Theoria motus.
    """

    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


class Mean(Good):
    def forward(self, scores, target):
        return (scores - target).square().mean()


class Weighted(Good):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor
'''


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def acme(distributions):
    distributions.module("acme_losses", LOSSES)
    return distributions


def test_components_that_keep_the_contract(acme, capsys):
    acme.offer("acme", ("losses", "good", "acme_losses:Good"))
    status, out, err = run(capsys, "check", "acme", "--quick")
    lines = out.splitlines()
    assert status == 0
    assert lines[0].split() == ["family", "component", "check", "outcome", "reason"]
    assert ["loss", "acme:good", "value_per_row", "passed"] in [line.split() for line in lines]
    assert lines[-1].startswith("1 component, ")
    assert "ran: " in lines[-1]
    assert " 0 failed, 0 failed as expected; " in lines[-1]
    assert "not applicable" in lines[-1]
    assert "not run" in lines[-1]
    assert err == ""


def test_a_failure_is_the_last_row_with_the_remedy_and_status_1(acme, capsys):
    acme.offer("acme", ("losses", "good", "acme_losses:Good"), ("losses", "mean", "acme_losses:Mean"))
    status, out, _ = run(capsys, "check", "acme:mean", "--quick")
    assert status == 1
    assert "acme:good" not in out
    failed = [line for line in out.splitlines() if "  failed  " in line]
    assert out.splitlines()[-2 - len(failed) : -2] == failed
    (row,) = [line for line in failed if " value_per_row " in line]
    assert "forward returns () for 5 rows, and not (5,): leave the mean over rows to the core" in row


def test_json_has_an_object_for_each_check(acme, capsys):
    acme.offer("acme", ("losses", "good", "acme_losses:Good"), ("losses", "weighted", "acme_losses:Weighted"))
    status, out, err = run(capsys, "check", "acme", "--json", "--quick")
    found = json.loads(out)
    assert status == 1  # the parameter of `weighted` is undocumented
    assert all(set(each) == {"family", "component", "check", "outcome", "reason"} for each in found)
    outcomes = {(each["component"], each["check"]): each for each in found}
    assert outcomes["acme:good", "value_per_row"]["outcome"] == "passed"
    needs = outcomes["acme:weighted", "value_per_row"]
    assert needs["outcome"] == "not run"
    assert needs["reason"].startswith(
        'needs a value of factor: declare it in [tool.torchplug.check.parameters."loss:weighted"]'
    )
    assert err.startswith("2 components, ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hubert", "did you mean huber"),
        ("torchplug-robusd", "did you mean torchplug-robust?"),
        ("torchplug-robust:hubert", "did you mean torchplug-robust:huber"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(capsys, name, message):
    status, out, err = run(capsys, "check", name)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_broken_distribution_is_refused(distributions, capsys):
    distributions.add("broken", "raise RuntimeError('nothing works')")
    status, out, err = run(capsys, "check", "broken")
    assert (status, out) == (2, "")
    assert "nothing works" in err


def test_listing_imports_neither_torch_nor_the_checks(distributions):
    code = (
        "import sys; from torchplug.cli import main; main(['list', 'loss']);"
        "print({'torch', 'pytest', 'torchplug.testing'} & set(sys.modules))"
    )
    assert distributions.run("-c", code).stdout.splitlines()[-1] == "set()"


def test_the_checks_are_known_without_torch(distributions):
    code = "import sys, torchplug.testing, torchplug.testing.record; print({'torch', 'pytest'} & set(sys.modules))"
    assert distributions.run("-c", code).stdout.splitlines()[-1] == "set()"


def test_progress_is_shown_on_a_terminal_alone(acme, capsys, monkeypatch):
    acme.offer("acme", ("losses", "good", "acme_losses:Good"))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    _, out, err = run(capsys, "check", "acme", "--quick")
    number = len(out.splitlines()) - 3  # the header, and the summary after an empty line
    assert f"\r{number}/{number} acme:good " in err
    assert err.endswith("\r")


def test_a_component_that_ends_the_process_fails_alone(acme, capsys, monkeypatch):
    """The reason names the component's line, also where `sys.exit` is wrapped, as by W&B's client."""
    leave = sys.exit
    monkeypatch.setattr(sys, "exit", lambda status: leave(status))
    acme.module(
        "acme_exit",
        "import sys\nfrom acme_losses import Good\n\nclass Ends(Good):\n"
        "    def forward(self, scores, target):\n        sys.exit(7)\n",
    )
    acme.offer("acme", ("losses", "ends", "acme_exit:Ends"))
    status, out, _ = run(capsys, "check", "acme", "--quick")
    assert status == 1
    assert "raises SystemExit: 7 (acme_exit.py:6)" in out
