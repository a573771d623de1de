"""How many tested rows the MLP recipe's 90 % intervals cover, on tables with at least 1,000 rows.

    python benchmarks/intervals.py [--names concrete wine ...] [--splits 2] FOLDER [-- --trainer.max_epochs 20]

The folder and the tables are those of accuracy.py, for numbers. A fifth of the rows that are not tested validates.
Prints Markdown: the share of tested rows within their intervals, each split's and their mean with the standard error
that drawing the rows alone would give.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from interleaved import machine, table
from prediction.ours import recipe
from prediction.tables import TABLES, Sources, split

NAMES = ["concrete", "airfoil", "wine", "skillcraft", "sml", "parkinsons", "pol", "elevators", "bike"]
LEVEL = 0.9


def measured(test: pd.DataFrame, flags: Sequence[str]) -> dict[str, Any]:
    """The covered share, width and number of validated rows of a fit to train.csv in the working directory.

    Args:
        test: the tested rows, which are in test.csv too.
        flags: more flags for the recipe.
    """
    run, output = recipe(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        data = ["--data.source", "train.csv", "--data.target", "y", "--data.split", "[0.8,0.2]"]
        status = run(["fit", *data, *flags])
        predict = ["predict", "--data.source", "test.csv", "--interval", str(LEVEL), "--output", "predicted.csv"]
        status = status or run(predict)
    if status:
        raise SystemExit(output.getvalue())
    found, true = pd.read_csv("predicted.csv"), test["y"].to_numpy()
    covered = (true >= found["y_lower"]) & (true <= found["y_upper"])
    (width, *_) = found["y_upper"] - found["y_lower"]
    rows = next(line for line in output.getvalue().splitlines() if "intervals, by" in line)
    return {"covered": covered.mean(), "width": width / true.std(), "validated": int(rows.split("by ")[1].split()[0])}


def main() -> None:
    """Fit, predict, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--splits", type=int, default=2, help="how many of the splits are used, from the first")
    parser.add_argument("flags", nargs="*", help="after --: flags for the recipe")
    given = parser.parse_intermixed_args()
    os.environ["WANDB_MODE"] = "disabled"
    sources, lines = Sources(given.folder.resolve(), None), []
    for name in given.names:
        found, tested = [], 0
        for number in range(given.splits):
            train, test = split(TABLES[name], sources, number)
            with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
                train.to_csv("train.csv", index=False)
                test.to_csv("test.csv", index=False)
                found.append(measured(test, given.flags))
            tested = len(test)
        shares = [own["covered"] for own in found]
        validated = found[0]["validated"]
        error = math.sqrt(LEVEL * (1 - LEVEL) * (1 / tested + 1 / validated) / len(found))
        width = np.mean([own["width"] for own in found])
        each = ", ".join(f"{100 * share:.1f}" for share in shares)
        lines.append(
            [name, validated, tested, each, f"{100 * np.mean(shares):.1f} ± {100 * error:.1f}", f"{width:.2f}"]
        )
        print(lines[-1], flush=True)
    print(table(["table", "validated", "tested", "covered, %", "mean", "width / σ"], lines))
    print(machine("numpy"))


if __name__ == "__main__":
    main()
