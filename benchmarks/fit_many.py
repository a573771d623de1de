"""Many models as one program against as many fits: 64 linear models, 5 folds × 64 logistic ones, 64 small MLPs.

python benchmarks/fit_many.py [--quick] [--only linear logistic mlp16 mlp64]

20,000 × 32 rows in single precision, batches of 256, Adam with eight learning rates times eight strengths of l2, 4
epochs, one thread. Six single fits before and six after are timed, by their CPU time, and multiplied by the number of
models: all costs are in, also those of the run directory of the models that are trained together, but that a fold's
table is prepared once for all of its single fits. The last column builds every module as well.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import lightning
import numpy as np
import torch
from interleaved import machine, table

from torchplug import ComponentModule, TabularData, fit_many, use

EPOCHS = 4
JOBS: Mapping[str, tuple[str, Any, str, int]] = {
    "linear": ("64 linear", use("linear"), "mse", 1),
    "logistic": ("5 folds × 64 logistic", use("linear"), "bce", 5),
    "mlp16": ("64 MLPs 16-16", use("mlp", hidden=[16, 16]), "mse", 1),
    "mlp64": ("64 MLPs 64-64", use("mlp", hidden=[64, 64]), "mse", 1),
}
QUIET = {
    "accelerator": "cpu",
    "max_epochs": EPOCHS,
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "use_distributed_sampler": False,
}
TRACKED: Mapping[str, Any] = {"tracking": {"mode": "disabled"}, "root": tempfile.mkdtemp(prefix="fit_many")}


def rows(n: int, classes: bool) -> tuple[Any, Any]:
    """Normal features and a noisy linear target, or its sign."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 32))
    y = X @ rng.normal(size=32) / 3 + rng.normal(size=n)
    return X, (y > 0).astype(int) if classes else y


def configurations(model: Any, loss: str, count: int) -> list[dict[str, Any]]:
    """So many learning rates times so many strengths."""
    return [
        {
            "model": model,
            "loss": loss,
            "optimizer": use("adam", lr=float(rate)),
            "regularizers": [use("l2", coefficient=float(strength))],
        }
        for rate in np.geomspace(1e-3, 3e-2, count)
        for strength in np.geomspace(1e-5, 1e-2, count)
    ]


def cpu(job: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of CPU time, and what the job gives."""
    start = time.process_time()
    found = job()
    return time.process_time() - start, found


def single(config: Mapping[str, Any], data: TabularData) -> None:
    """One fit by itself."""
    torch.manual_seed(0)
    lightning.Trainer(**QUIET).fit(ComponentModule(**config), data)


def compare(name: str, n: int, count: int, fits: int) -> tuple[str, ...]:
    """One row of the table."""
    what, model, loss, parts = JOBS[name]
    X, y = rows(n, loss == "bce")
    configs = configurations(model, loss, count)
    pieces = np.array_split(np.random.default_rng(1).permutation(n), 5)
    folds = [(np.concatenate(pieces[:f] + pieces[f + 1 :]), pieces[f]) for f in range(parts)]

    def data() -> TabularData:
        return TabularData((X, y), batch_size=256)

    chosen = configs[:: max(1, len(configs) // fits)][:fits]
    own = data().fold(*folds[0])
    single(chosen[0], own)
    fit_many(configs[:2], data(), folds, {**QUIET, "max_epochs": 1}, **TRACKED)
    before = [cpu(lambda config=config: single(config, own))[0] for config in chosen]
    together, results = cpu(lambda: fit_many(configs, data(), folds, QUIET, **TRACKED))
    modules, _ = cpu(lambda: [result.module for result in results])
    after = [cpu(lambda config=config: single(config, own))[0] for config in chosen]
    each = sorted([*before, *after])
    one = float(np.median(each))
    alone = one * len(results)
    return (
        what,
        f"{1e3 * one:.0f} ({1e3 * each[0]:.0f}–{1e3 * each[-1]:.0f})",
        f"{1e3 * together:.0f}",
        f"{alone / together:.1f}",
        f"{alone / (together + modules):.1f}",
    )


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows, nine configurations, two fits")
    parser.add_argument("--only", nargs="+", choices=list(JOBS), default=list(JOBS), help="some of the jobs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    print(machine("lightning"))
    n, count, fits = (2_000, 3, 2) if arguments.quick else (20_000, 8, 6)
    lines = [compare(name, n, count, fits) for name in arguments.only]
    heads = ("models", "one fit, CPU ms, median (range)", "together, CPU ms", "times faster", "with every module built")
    print(table(heads, lines), flush=True)


if __name__ == "__main__":
    main()
