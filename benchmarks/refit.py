"""What `torchplug.fit(refit=True)` changes on tested rows: the error, and the share within 90 % intervals.

    python benchmarks/refit.py [--splits 12]

An MLP of 64-64 units on the bundled diabetes data, and on Friedman's first function with 400 rows, 8 features and
noise of standard deviation 1; 60 % of the rows train, 20 % validate and 20 % are tested. Prints Markdown: the ratio of
the root mean squared errors with its standard error over the splits, and both coverages.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import tempfile
import warnings
from typing import Any

import numpy as np
import polars as pl
from interleaved import machine, table

import torchplug
from torchplug import TabularData, use

CONFIG = {
    "model": use("mlp", hidden=[64, 64], activation="silu", dropout=0.0),
    "loss": use("mse"),
    "optimizer": use("adam", lr=3e-3),
    "scheduler": use("one_cycle"),
}
LEVEL = 0.9


def friedman(seed: int) -> pl.DataFrame:
    """Friedman (1991), doi:10.1214/aos/1176347963: three of the eight features have no effect."""
    generator = np.random.default_rng(seed)
    x = generator.uniform(size=(400, 8))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    columns = {f"x{i}": x[:, i] for i in range(8)}
    return pl.DataFrame({**columns, "target": y + generator.normal(size=400)})


def measured(source: Any, seed: int, epochs: int) -> list[tuple[float, float]]:
    """Root mean squared error and coverage of the tested rows, without and with a refit.

    Args:
        source: of the table, whose target is `target`.
        seed: of split and network.
        epochs: planned.
    """
    data = TabularData(source, "target", batch_size=32, seed=seed)
    trainer, tracking = {"max_epochs": epochs}, {"mode": "disabled"}
    run = torchplug.fit(CONFIG, data, trainer=trainer, tracking=tracking, refit=True, seed=seed).run
    tested, found = data.frame_of("test"), []
    true = tested["target"].to_numpy()
    for model in (torchplug.load(run.selected), torchplug.load(run)):
        predicted = model.predict(tested, interval=LEVEL)
        within = (predicted["target_lower"].to_numpy() <= true) & (true <= predicted["target_upper"].to_numpy())
        error = math.sqrt(float(np.square(predicted["target"].to_numpy() - true).mean()))
        found.append((error, float(within.mean())))
    return found


def main() -> None:
    """Fit, refit, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=12)
    splits = parser.parse_args().splits
    warnings.simplefilter("ignore")  # Lightning's
    lines = []
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        for name, epochs in (("diabetes", 20), ("friedman", 60)):
            found = np.array(
                [measured(name if name == "diabetes" else friedman(seed), seed, epochs) for seed in range(splits)]
            )
            ratios, covered = found[:, 1, 0] / found[:, 0, 0], 100 * found[:, :, 1].mean(axis=0)
            error = ratios.std(ddof=1) / math.sqrt(splits)
            lines.append([name, f"{ratios.mean():.3f} ± {error:.3f}", f"{covered[0]:.1f}", f"{covered[1]:.1f}"])
    print(table(["table", "RMSE / RMSE without", "covered without, %", "covered, %"], lines))
    print(machine("numpy"))


if __name__ == "__main__":
    main()
