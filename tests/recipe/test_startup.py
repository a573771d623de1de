"""What a recipe leaves alone until it is needed."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from torchplug import recipe
from torchplug.recipe.collector import paused_collector

RECIPES = Path(__file__).parents[2] / "recipes"

DEAR = {"wandb", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "sympy", "statsmodels", "joblib", "torchvision"}
"""Packages that a fit has no use for. Lightning imports some of them all the same: what it imports is not counted."""

PROGRAM = """
import atexit, runpy, sys
import lightning.pytorch
before = set(sys.modules)
atexit.register(lambda: print(*{name.partition(".")[0] for name in sys.modules.keys() - before}))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("name", ["linear_regression", "mlp"])
def test_a_fit_without_tracking_imports_nothing_dear(tmp_path, monkeypatch, name):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    command = [sys.executable, "-c", PROGRAM, RECIPES / f"{name}.py", "--trainer.max_epochs", "2"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=True)
    imported = set(result.stdout.splitlines()[-1].split())
    assert {"torchplug", "polars"} <= imported
    assert not DEAR & imported


def test_the_collector_pauses_while_modules_are_imported():
    with paused_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_a_collector_that_was_off_stays_off():
    gc.disable()
    try:
        with paused_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_only_a_program_of_its_own_keeps_everything(command_of, monkeypatch):
    frozen = []
    monkeypatch.setattr("torchplug.recipe.command.leave_to_the_system", lambda: frozen.append(True))
    settings = recipe.Settings({"model": "linear", "loss": "mse", "optimizer": "sgd"}, {"source": "iris"})
    recipe.parse("mlp.py", ["fit"], settings)
    assert frozen == []
    monkeypatch.setattr(sys, "argv", ["mlp.py", "fit"])
    recipe.parse("mlp.py", None, settings)
    assert frozen == [True]
