"""The commands `diagnose`, `ladder` and `learning_curve`."""

import inspect
import json

import pytest

import torchplug
from recipe_calls import call
from recipe_processes import interrupted, run_directories
from torchplug.recipe.subcommands import SUBCOMMANDS

FEW = ["--trainer.max_epochs", "3", "--tracking.mode", "disabled"]
DISABLED = ["--tracking.mode", "disabled"]


@pytest.mark.parametrize("name", ["diagnose", "ladder", "learning_curve"])
def test_options_are_the_parameters_of_the_function(name):
    parameters = inspect.signature(getattr(torchplug, name)).parameters
    for option, about in SUBCOMMANDS[name].options.items():
        default = parameters[option].default
        assert default is inspect.Parameter.empty or default == about.default


def test_a_fit_is_diagnosed(run):
    run(["--trainer.max_epochs", "2", "--tracking.mode", "disabled"])
    status, printed, _ = run(["diagnose", "last"])
    assert status == 0
    assert "verdict: not converged (TPD001)" in printed
    assert "--trainer.max_epochs" in printed
    written = printed.split("diagnosis: ")[-1].strip()
    with open(written) as file:
        assert json.load(file)["verdict"] == "not converged"
    _, muted, _ = run(["diagnose", "--ignore", "TPD001", "--ignore", "TPD002"])
    assert "TPD001" not in muted
    assert "TPD002" not in muted


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (["diagnose"], "there is no run"),
        (["diagnose", "a", "b"], "takes one run"),
        (["ladder", "--steps", "0"], "steps must be at least 1"),
        (["learning_curve", "--fractions", "0,1"], "in (0, 1]"),
        (["learning_curve", "--fractions", "half"], "expected numbers"),
    ],
)
def test_bad_input_is_refused(run, line, reason):
    status, _, errors = run(line)
    assert status == 2
    assert reason in errors


def test_a_ladder_that_fails_has_an_exit_status_of_its_own(run):
    status, printed, _ = run(["ladder", "--steps", "60", "--model.optimizer.lr", "1e-5", *DISABLED])
    assert status == 4
    assert "TPL014 learning rate too low" in printed
    assert "raise --model.optimizer.lr" in printed


def test_a_learning_curve(run):
    status, printed, _ = run(["learning_curve", "--fractions", "0.2,0.5,1", "--repeats", "2", *FEW])
    assert status == 0
    assert "learning_curve.csv" in printed


def test_an_interrupted_learning_curve_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    arguments = ["learning_curve", "--fractions", "0.5,1", "--trainer.max_epochs", "400"]
    command = interrupted(tmp_path, "linear_regression", *arguments)
    (directory,) = run_directories(tmp_path, "linear_regression-learning_curve")
    assert not (directory / "learning_curve.csv").exists()
    monkeypatch.chdir(tmp_path)
    assert call(capsys, command)[0] == 0
    assert (directory / "learning_curve.csv").is_file()
