"""Fits the MLP recipe to train.csv and predicts test.csv, both in the working directory; arguments are the recipe's.

Writes predicted.csv and prints the CPU seconds of `fit`.
"""

from __future__ import annotations

import importlib.util
import pkgutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch  # noqa: F401

import torchplug
import torchplug_tabular
from torchplug.registry import registry

RECIPE = Path(__file__).parents[2] / "recipes" / "mlp.py"


def recipe() -> Callable[[list[str]], int]:
    """The recipe's command line, as a function of its arguments that returns the exit status."""
    spec = importlib.util.spec_from_file_location("mlp", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], int] = module.main
    return main


def import_everything() -> None:
    """Import what is otherwise imported when it is first used: importing is not training."""
    for package in (torchplug, torchplug_tabular):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    _ = registry().plugins


def main() -> int:
    """Fit and predict; returns the exit status."""
    import_everything()
    run = recipe()
    data = ["--data.source", "train.csv", "--data.target", "y", "--data.split", "[0.8,0.2]"]
    start = time.process_time()
    status = run(["fit", *data, *sys.argv[1:]])
    seconds = time.process_time() - start
    status = status or run(["predict", "--data.source", "test.csv", "--output", "predicted.csv"])
    print(f"SECONDS {seconds}")
    return status


if __name__ == "__main__":
    sys.exit(main())
