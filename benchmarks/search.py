"""A search of 64 random trials against the same trials by Optuna and one fit after the other.

python benchmarks/search.py [--quick] [--fits 6]

An MLP 32-32 on 20,000 × 32 rows in single precision, of which 12,000 train, batches of 256, Adam, 10 epochs; learning
rate and l2 are drawn. CPU time of one thread. `torchplug.search` has all its costs in: the study in its journal, the
run directory, pictures. On the other side Optuna asks for the same trials in memory, and each is a Lightning fit of a
ComponentModule without a run directory, the table prepared once; six of the 64 are timed, half of them before and half
after the search, and their median counts 64 times. The trials' losses are compared.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import numpy as np
import optuna
import torch
from interleaved import machine, table

import torchplug
from torchplug import ComponentModule, TabularData, use

SPACE = {"model.optimizer.lr": "log(1e-4,1e-2)", "model.regularizers.0.coefficient": "log(1e-6,1e-2)"}
QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}
BARE: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}


def config(rate: float = 1e-3, coefficient: float = 1e-4) -> dict[str, Any]:
    """An MLP with these settings."""
    return {
        "model": use("mlp", hidden=[32, 32]),
        "optimizer": use("adam", lr=rate),
        "regularizers": [use("l2", coefficient=coefficient)],
    }


def drawn(trials: int) -> list[tuple[float, float]]:
    """The trials that Optuna's random sampler asks for."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    asked = [study.ask() for _ in range(trials)]
    return [
        (own.suggest_float("rate", 1e-4, 1e-2, log=True), own.suggest_float("coefficient", 1e-6, 1e-2, log=True))
        for own in asked
    ]


def cpu(job: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of CPU time, and what the job gives."""
    start = time.process_time()
    found = job()
    return time.process_time() - start, found


def single(rate: float, coefficient: float, data: TabularData, epochs: int) -> float:
    """The validation loss of one fit by itself."""
    torch.manual_seed(0)
    trainer = lightning.Trainer(**QUIET, **BARE, max_epochs=epochs, use_distributed_sampler=False)
    trainer.fit(ComponentModule(**config(rate, coefficient)), data)
    return float(trainer.callback_metrics["val/loss"])


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, 8 trials, 2 epochs")
    parser.add_argument("--fits", type=int, default=6, help="how many of the trials are timed one by one")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("lightning.pytorch", "optuna"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    n, trials, epochs = (2_000, 8, 2) if arguments.quick else (20_000, 64, 10)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 32))
    y = np.tanh(X @ rng.normal(size=(32, 4))).sum(axis=1) + 0.3 * rng.normal(size=n)
    asked = drawn(trials)
    chosen = list(range(0, trials, max(1, trials // arguments.fits)))[: arguments.fits]
    own = TabularData((X, y), batch_size=256)

    def search(count: int, most: int) -> torchplug.SearchResult:
        return torchplug.search(
            config(),
            TabularData((X, y), batch_size=256),
            random=SPACE,
            trials=count,
            repeats=0,
            trainer={**QUIET, "max_epochs": most},
            tracking={"mode": "disabled"},
            root=tempfile.mkdtemp(prefix="search"),
        )

    def fit(trial: int) -> tuple[float, float]:
        return cpu(lambda: single(*asked[trial], own, epochs))

    search(2, 1)
    single(*asked[0], own, 1)
    before = [fit(trial) for trial in chosen[::2]]
    together, found = cpu(lambda: search(trials, epochs))
    after = [fit(trial) for trial in chosen[1::2]]
    values = dict(found.trials.select("trial", "val/loss").rows())
    apart = max(
        abs(values[trial] / value - 1)
        for trial, (_, value) in zip([*chosen[::2], *chosen[1::2]], [*before, *after], strict=True)
    )
    each = sorted(seconds for seconds, _ in [*before, *after])
    one = float(np.median(each))
    heads = ("trials", "one fit, CPU s, median (range)", "one by one", "search, CPU s", "times faster", "losses apart")
    row = (
        f"{trials} × {epochs} epochs",
        f"{one:.2f} ({each[0]:.2f}–{each[-1]:.2f})",
        f"{trials * one:.1f}",
        f"{together:.1f}",
        f"{trials * one / together:.1f}",
        f"{apart:.1e}",
    )
    print(machine("lightning"))
    print(table(heads, [row]), flush=True)


if __name__ == "__main__":
    main()
