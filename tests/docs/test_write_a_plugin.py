"""The plugin that docs/write_a_plugin.md builds, file by file, is installed and does what the page says."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/write_a_plugin.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the plugin, and with `site`, into which it is installed."""
    folder = tmp_path_factory.mktemp("plugin")
    for name, content in re.findall(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)```$", PAGE, re.DOTALL | re.MULTILINE):
        (folder / "my-parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "my-parts" / name).write_text(content, encoding="utf-8")
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--target", "site"]
    call(folder, "-m", "pip", "--disable-pip-version-check", "install", *options, "./my-parts")
    return folder


def call(folder, *arguments):
    """Run Python where the plugin is installed; its output."""
    path = os.pathsep.join(["site", os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "WANDB_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def used():
    """The commands of the section "Use it"."""
    (block,) = re.findall(r"## Use it\n\n```\n(.*?)```", PAGE, re.DOTALL)
    return [shlex.split(line) for line in block.splitlines()]


def test_its_components_are_listed(installed):
    names = [
        line.split()[:2] for line in call(installed, "-m", "torchplug", "list", "--filter", "my-parts").splitlines()
    ]
    assert ["loss", "gaussian"] in names
    assert {family for family, _ in names[1:]} == {"model", "loss", "optimizer", "regularizer", "scheduler", "metric"}


def test_it_passes_the_checks(installed):
    call(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", "my-parts/tests")


@pytest.mark.parametrize("command", [line for line in used() if line[0] != "pip"], ids=" ".join)
def test_the_commands_run(installed, command):
    if command[0] == "torchplug":
        assert "gaussian" in call(installed, "-m", *command)
    else:
        assert "loss" in call(installed, ROOT / command[1], *command[2:], "--trainer.max_epochs", 2)


def test_a_mean_and_a_deviation_are_predicted(installed):
    size = np.linspace(-2, 2, 400)
    noise = np.random.default_rng(0).standard_normal(400) * np.exp(size / 2)
    houses = pl.DataFrame({"size": size, "price": 100 * (size**3 + noise)})
    houses.write_csv(installed / "houses.csv")
    houses.drop("price").write_csv(installed / "new.csv")
    (code,) = re.findall(r"```python\n(import polars.*?)```", PAGE, re.DOTALL)
    call(installed, "-c", code + "predicted.write_csv('predicted.csv')\n")
    predicted = pl.read_csv(installed / "predicted.csv")
    deviation = predicted["price_deviation"].to_numpy()
    assert (deviation > 0).all()
    assert deviation[-100:].mean() > 2 * deviation[:100].mean()
    inside = np.abs(houses["price"].to_numpy() - predicted["price"].to_numpy()) < deviation
    assert 0.55 < inside.mean() < 0.8  # about 68 %
