"""How well the MLP recipe predicts with its defaults, beside ridge, boosted trees and RealMLP's defaults.

    python benchmarks/accuracy.py FOLDER [--names yacht energy ...] [--splits 2] [--pytabkit PYTHON] [--record FILE]

The folder holds tables of numbers without a header, NAME.csv.gz, whose last column is the target, and for each a
NAME.test_mask.csv.gz with a column of 0 and 1 for each split: 1 where a row is tested. The recipe is given the other
rows and fits and tests as a user would run it; a fifth of these rows validates. RealMLP-TD validates on a fifth too;
ridge (RidgeCV, standardized features) and HistGradientBoosting fit all of them. pytabkit, which has RealMLP-TD,
lives in an environment of its own, whose interpreter --pytabkit names. What the peers reach is kept in the file of
--record, since it takes most of the time, and read from there.

Prints Markdown: RMSE on the tested rows, ratios and times.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from interleaved import machine, table
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RECIPE = Path(__file__).parents[1] / "recipes" / "mlp.py"
NAMES = ["yacht", "servo", "energy", "concrete", "wine", "airfoil"]
NAMES += ["skillcraft", "sml", "parkinsons", "pol", "elevators", "bike"]
REALMLP = """
import sys, time
import numpy as np, pandas as pd, torch
from pytabkit import RealMLP_TD_Regressor
torch.set_num_threads(1)
train, test = (pd.read_csv(path).to_numpy(np.float32) for path in ("train.csv", "test.csv"))
start = time.perf_counter()
model = RealMLP_TD_Regressor(random_state=0, device="cpu", n_threads=1, verbosity=0, n_cv=1, val_fraction=0.2)
model.fit(train[:, :-1], train[:, -1])
error = np.asarray(model.predict(test[:, :-1])).ravel() - test[:, -1]
print("RESULT", float(np.sqrt(np.mean(error**2))), time.perf_counter() - start)
"""


@contextlib.contextmanager
def split(folder: Path, name: str, number: int) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Training and tested rows, also as train.csv and test.csv in a working directory that lasts as long as the block.

    Args:
        folder: where the tables lie.
        name: the table.
        number: the split, from 0.
    """
    rows = pd.read_csv(folder / f"{name}.csv.gz", header=None)
    rows.columns = [*(f"x{j}" for j in range(rows.shape[1] - 1)), "y"]
    tested = pd.read_csv(folder / f"{name}.test_mask.csv.gz", header=None).to_numpy()[:, number].astype(bool)
    with tempfile.TemporaryDirectory() as directory, contextlib.chdir(directory):
        train, test = rows[~tested], rows[tested]
        train.to_csv("train.csv", index=False)
        test.to_csv("test.csv", index=False)
        yield train, test


def recipe(flags: Sequence[str]) -> dict[str, Any]:
    """The recipe's RMSE on test.csv and its seconds, fitted in the working directory with no flag but the data's.

    Args:
        flags: more flags, for trying others than the defaults.
    """
    spec = importlib.util.spec_from_file_location("mlp", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = ["--data.source", "train.csv", "--data.target", "y", "--data.test", "test.csv"]
    data += ["--data.split", "[0.8,0.2,0]"]
    output, start = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = module.main(["fit", *data, *flags])
        seconds = time.perf_counter() - start
        status = status or module.main(["test"])
    if status:
        raise SystemExit(output.getvalue())
    (metrics,) = Path("runs").glob("mlp/*/metrics.jsonl")
    found = [row["test/rmse"] for row in map(json.loads, metrics.read_text().splitlines()) if "test/rmse" in row]
    chosen = next(line for line in output.getvalue().splitlines() if "chosen for" in line)
    best = next(line for line in output.getvalue().splitlines() if line.startswith("best: "))
    return {"rmse": found[-1], "seconds": seconds, "chosen": chosen.partition(": chosen for ")[2], "best": best}


def peers(train: pd.DataFrame, test: pd.DataFrame, pytabkit: str | None) -> dict[str, float]:
    """RMSE of the peers on the tested rows, and their seconds.

    Args:
        train: the rows to fit.
        test: the tested rows.
        pytabkit: an interpreter that has pytabkit; None: RealMLP is left out.
    """
    found = {}
    x, y = train.iloc[:, :-1].to_numpy(), train["y"].to_numpy()
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-4, 4, 17)))
    for name, model in {"ridge": ridge, "hgb": HistGradientBoostingRegressor(random_state=0)}.items():
        start = time.perf_counter()
        error = model.fit(x, y).predict(test.iloc[:, :-1].to_numpy()) - test["y"].to_numpy()
        found |= {name: float(np.sqrt(np.mean(error**2))), f"{name}_s": time.perf_counter() - start}
    if pytabkit is not None:
        command = [pytabkit, "-W", "ignore", "-c", REALMLP]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rmse, seconds = printed.partition("RESULT ")[2].split()
        found |= {"realmlp": float(rmse), "realmlp_s": float(seconds)}
    return found


def mean(ratios: Sequence[float]) -> str:
    """The geometric mean, as text."""
    return f"{np.exp(np.mean(np.log(ratios))):.2f}" if len(ratios) else "-"


def main() -> None:
    """Fit, and print the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", default=NAMES)
    parser.add_argument("--splits", type=int, default=2, help="how many of the splits are used, from the first")
    parser.add_argument("--pytabkit", help="an interpreter with pytabkit, for RealMLP-TD")
    parser.add_argument("--record", type=Path, help="a JSON file with what the peers reached; others are added to it")
    parser.add_argument("flags", nargs="*", help="after --: flags for the recipe, to try others than its defaults")
    given = parser.parse_intermixed_args()
    os.environ["WANDB_MODE"] = "disabled"
    folder, record = given.folder.resolve(), None if given.record is None else given.record.resolve()
    known: dict[str, dict[str, float]] = json.loads(record.read_text()) if record and record.is_file() else {}
    rows: list[list[str]] = []
    ratios: dict[str, list[float]] = {"ridge": [], "hgb": [], "realmlp": []}
    for name in given.names:
        for number in range(given.splits):
            key = f"{name}-{number}"
            with split(folder, name, number) as (train, test):
                ours = recipe(given.flags)
                wanted = {"ridge", *(["realmlp"] if given.pytabkit else [])}
                if not wanted <= known.get(key, {}).keys():
                    known[key] = peers(train, test, given.pytabkit)
                    if record is not None:
                        record.write_text(json.dumps(known, indent=1) + "\n")
            theirs = known[key]
            by_peer = {peer: ours["rmse"] / theirs[peer] for peer in ratios if peer in theirs}
            for peer, ratio in by_peer.items():
                ratios[peer].append(ratio)
            worse = " (worse)" if by_peer["ridge"] > 1 else ""
            cells = [f"{len(train)} × {train.shape[1] - 1}", f"{ours['rmse']:.4g}"]
            cells += [f"{by_peer['ridge']:.3f}{worse}", f"{by_peer['hgb']:.2f}"]
            cells += [f"{by_peer['realmlp']:.2f}" if "realmlp" in by_peer else "-", f"{ours['seconds']:.0f}"]
            cells += [f"{theirs['realmlp_s']:.0f}" if "realmlp_s" in theirs else "-"]
            rows.append([key, *cells])
            print(f"{rows[-1]} {ours['chosen']} {ours['best']}", file=sys.stderr, flush=True)
    means = ["geometric mean", "", "", *(mean(ratios[peer]) for peer in ratios), "", ""]
    heads = ["table, split", "rows × features", "RMSE", "of ridge", "of boosted trees", "of RealMLP-TD", "s"]
    heads += ["RealMLP's s"]
    print(machine(), "", table(heads, [*rows, means]), sep="\n")


if __name__ == "__main__":
    main()
