"""What a project's pyproject.toml declares for its components reaches the command and the tests."""

import json

import pytest

from torchplug.cli import main
from torchplug.errors import ConfigurationError
from torchplug.registry.installed import Installation
from torchplug.testing import parametrize_with_checks

LOSSES = '''
from torchplug import Loss, validate


class Weighted(Loss):
    """Squared error.

        Σ a (z − y)²

    Args:
        factor: a > 0.

    Shape:
        scores (n, k), target (n, k) → (n,).

    Raises:
        ValueError: if factor is not positive.

    Reference: Gauss (1809), Theoria motus.
    """

    kind = "regression"

    def __init__(self, factor: float):
        super().__init__()
        validate.positive(factor=factor)
        self.factor = factor

    def forward(self, scores, target):
        return self.factor * (scores - target).square().sum(1)


class Mean(Weighted):
    def __init__(self):
        super().__init__(1.0)

    def forward(self, scores, target):
        return (scores - target).square().mean()
'''
PROJECT = "[project]\nname = 'Acme'\n"
DECLARED = f"""{PROJECT}
[tool.torchplug.check.parameters.weighted]
factor = 3

[tool.torchplug.check.expected_failed_checks."loss:mean"]
value_per_row = "it averages"
"""


@pytest.fixture
def project(distributions, tmp_path, monkeypatch):
    """The folder of a project, installed, with the working directory below it."""
    distributions.module("acme_losses", LOSSES)
    distributions.offer("acme", ("losses", "weighted", "acme_losses:Weighted"), ("losses", "mean", "acme_losses:Mean"))
    inner = tmp_path / "project" / "tests"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return inner.parent


@pytest.fixture
def outcomes(capsys):
    """The status of `torchplug check`, and the outcome and reason of each check that it shows."""

    def checked(name="acme"):
        status = main(["check", name, "--quick", "--json"])
        found = json.loads(capsys.readouterr().out)
        return status, {(each["component"], each["check"]): (each["outcome"], each["reason"]) for each in found}

    return checked


def test_the_command_reads_both(project, outcomes):
    (project / "pyproject.toml").write_text(DECLARED)
    _, found = outcomes()
    assert found["acme:weighted", "value_per_row"] == ("passed", "")
    assert found["acme:mean", "value_per_row"] == ("failed as expected", "it averages")
    assert not [key for key, (_, reason) in found.items() if key[0] == "acme:weighted" and "needs a value" in reason]
    status, found = outcomes("weighted")  # what is declared for others stands in the same file
    assert status == 0
    assert {component for component, _ in found} == {"acme:weighted"}


def test_the_decorator_reads_both_and_arguments_come_before_them(project):
    (project / "pyproject.toml").write_text(DECLARED)
    given = {"parameters": {"weighted": {"factor": 5.0}}, "expected_failed_checks": {"mean": {"values_repeat": "why"}}}
    plain, changed = ({case.id: case for case in parametrize_with_checks("acme", quick=True, **more).mark.args[1]}
                      for more in ({}, given))  # fmt: skip
    for cases, factor in ((plain, 3.0), (changed, 5.0)):
        component, _ = cases["loss-weighted-value_per_row"].values
        assert component.resolved().parameters == {"factor": factor}
        (mark,) = cases["loss-mean-value_per_row"].marks
        assert mark.kwargs == {"reason": "it averages", "strict": True}
    assert not plain["loss-mean-values_repeat"].marks
    assert changed["loss-mean-values_repeat"].marks[0].kwargs["reason"] == "why"


def test_an_expected_failure_that_passes_is_a_failure(project, outcomes):
    declared = DECLARED + '[tool.torchplug.check.expected_failed_checks.weighted]\nvalue_per_row = "no reason"\n'
    (project / "pyproject.toml").write_text(declared)
    status, found = outcomes("weighted")
    assert status == 1
    outcome, reason = found["acme:weighted", "value_per_row"]
    assert outcome == "failed"
    assert reason == "is expected to fail (no reason), and passes: remove the expectation"


@pytest.mark.parametrize("name", ["", "[project]\nname = 'other'\n"])
def test_another_projects_file_declares_nothing(project, outcomes, name):
    (project / "pyproject.toml").write_text(DECLARED.replace(PROJECT, name))
    _, found = outcomes()
    assert found["acme:weighted", "value_per_row"][0] == "not run"
    assert found["acme:mean", "value_per_row"][0] == "failed"


def test_an_installation_in_place_has_its_own_file(project, outcomes, tmp_path, monkeypatch):
    (project / "pyproject.toml").write_text(DECLARED)
    monkeypatch.setattr(Installation, "source", project)
    monkeypatch.chdir(tmp_path)
    assert outcomes()[1]["acme:weighted", "value_per_row"] == ("passed", "")
    (project / "pyproject.toml").unlink()
    assert outcomes()[1]["acme:weighted", "value_per_row"][0] == "not run"


REFUSED = {
    "check = 3": "tool.torchplug.check must be a table",
    "check = {parameter = {}}": "tool.torchplug.check has no key 'parameter': did you mean parameters?",
    "check = {parameters = 3}": "tool.torchplug.check.parameters must be a table of components",
    "check = {parameters = {weighted = 3}}": "tool.torchplug.check.parameters: weighted must be a table, and is 3",
    "check = {parameters = {weihgted = {}}}": "parameters: no component 'weihgted' is checked: did you mean weighted?",
    "check = {parameters = {'loss:mean' = {}, mean = {}}}": "parameters: mean is declared twice",
    "check = {parameters = {weighted = {facter = 1}}}": "weighted (loss): unknown parameter 'facter', did you mean",
    "check = {parameters = {weighted = {factor = 'a'}}}": "weighted (loss): factor must be float, got 'a'",
    "check = {expected_failed_checks = {mean = {value_per_rov = 'a'}}}": "no check 'value_per_rov' of losses: did you",
    "check = {expected_failed_checks = {mean = {first_rate_is_sane = 'a'}}}": "no check 'first_rate_is_sane' of losses",
    "check = {expected_failed_checks = {mean = {value_per_row = true}}}": "value_per_row needs a text that says why",
    "check = {expected_failed_checks = {mean = {value_per_row = ' '}}}": "value_per_row needs a text that says why",
    "check = {": "is malformed: ",
}


@pytest.mark.parametrize("table", REFUSED)
def test_a_malformed_table_is_one_line_with_the_file(project, capsys, table):
    (project / "pyproject.toml").write_text(f"{PROJECT}[tool.torchplug]\n{table}\n")
    assert main(["check", "acme", "--quick"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"torchplug: error: {project / 'pyproject.toml'}")
    assert REFUSED[table] in err
    assert err.count("\n") == 1
    with pytest.raises(ConfigurationError):
        parametrize_with_checks("acme", quick=True)


def test_a_target_that_cannot_be_imported_is_for_its_check_to_say(project, distributions, outcomes):
    distributions.offer("other", ("losses", "lost", "nowhere:Loss"))
    (project / "pyproject.toml").write_text(
        "[project]\nname = 'other'\n[tool.torchplug.check.parameters.lost]\nfactor = 1\n"
    )
    status, found = outcomes("other")
    assert status == 1
    assert found["other:lost", "target_is_importable"][0] == "failed"
