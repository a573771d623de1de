"""Bad input of every method that can meet it: one line, exit status 2, and nothing is written."""

import os

import polars as pl
import pytest

NUMBERS = ["--data.source", "t.csv", "--data.target", "y"]
CLASSES = ["--data.source", "t.csv", "--data.target", "k"]
GRID = ["--grid", "model.optimizer.lr=0.1,0.01"]
L2 = ["--model.regularizers+=l2"]

CASES = [
    # an empty grid or list
    ("linear_regression", ["search", *NUMBERS, "--grid", "model.optimizer.lr="], "an empty list of values"),
    ("linear_regression", ["search", *NUMBERS], "there is nothing to search"),
    ("linear_regression", ["path", *NUMBERS, *L2, "--coefficient", "[]"], "coefficient"),
    ("linear_regression", ["learning_curve", *NUMBERS, "--fractions", ""], "fractions"),
    ("linear_regression", ["tune_batch_size", *NUMBERS, "--sizes", "[]"], "sizes"),
    # an unknown path
    ("linear_regression", ["search", *NUMBERS, "--grid", "model.optimizer.speed=1,2"], "speed"),
    ("linear_regression", ["ladder", *NUMBERS, "--model.optimizer.speed", "1"], "speed"),
    ("linear_regression", ["learning_curve", *NUMBERS, "--trainer.epochs", "1"], "epochs"),
    ("linear_regression", ["diagnose", "nowhere"], "nowhere"),
    ("linear_regression", ["compare", "nowhere", "there"], "nowhere"),
    ("linear_regression", ["learning_curve", *NUMBERS, "--resume", "nowhere"], "nowhere"),
    ("linear_regression", ["cross_validate", *NUMBERS, "--resume", "nowhere"], "nowhere"),
    ("linear_regression", ["search", *NUMBERS, *GRID, "--resume", "nowhere"], "nowhere"),
    # a range that is reversed, or a logarithm of 0
    ("linear_regression", ["search", *NUMBERS, "--random", "model.optimizer.lr=uniform(1,0)"], "is reversed"),
    ("linear_regression", ["search", *NUMBERS, "--random", "model.optimizer.lr=log(0,1)"], "begins at 0"),
    ("linear_regression", ["path", *NUMBERS, *L2, "--coefficient", "log(1,0.1)"], "log(1,0.1)"),
    ("linear_regression", ["path", *NUMBERS, *L2, "--coefficient", "log(0,1)"], "log(0,1)"),
    ("linear_regression", ["tune_lr", *NUMBERS, "--lowest", "1", "--highest", "0.1"], "lowest"),
    ("linear_regression", ["tune_lr", *NUMBERS, "--lowest", "0"], "lowest"),
    # more folds than rows, or than members of the smallest class
    ("linear_regression", ["cross_validate", *NUMBERS, "--folds", "49"], "49 folds of 48 rows"),
    ("linear_regression", ["search", *NUMBERS, *GRID, "--folds", "49"], "49 folds of 48 rows"),
    ("linear_regression", ["path", *NUMBERS, *L2, "--folds", "61"], "61 folds"),
    ("logistic_regression", ["cross_validate", *CLASSES], "class 'x' has 3 rows for 5 folds"),
    ("logistic_regression", ["search", *CLASSES, *GRID, "--folds", "5"], "class 'x' has 3 rows for 5 folds"),
    ("logistic_regression", ["path", *CLASSES], "class 'x' has 3 rows for 5 folds"),
    # a column of groups that is missing
    ("linear_regression", ["cross_validate", *NUMBERS, "--data.group", "h"], "no column h"),
    ("linear_regression", ["search", *NUMBERS, *GRID, "--data.group", "h"], "no column h"),
    ("linear_regression", ["search", *NUMBERS, *GRID, "--data.group", "h", "--folds", "3"], "no column h"),
    ("linear_regression", ["path", *NUMBERS, *L2, "--data.group", "h"], "no column h"),
    ("linear_regression", ["learning_curve", *NUMBERS, "--data.group", "h"], "no column h"),
    ("linear_regression", ["ladder", *NUMBERS, "--data.group", "h"], "no column h"),
    ("linear_regression", ["tune_lr", *NUMBERS, "--data.group", "h"], "no column h"),
    ("linear_regression", ["tune_batch_size", *NUMBERS, "--data.group", "h"], "no column h"),
    # a storage that cannot be written
    ("linear_regression", ["search", *NUMBERS, *GRID, "--storage", "sqlite:////nowhere/s.db"], "cannot be opened"),
]


@pytest.mark.parametrize(("recipe", "line", "reason"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_one_line_and_nothing_written(run, tmp_path, recipe, line, reason):
    rows = range(60)
    table = {"a": rows, "b": [i % 7 for i in rows], "k": ["x" if i < 3 else "y" for i in rows], "y": rows}
    pl.DataFrame(table).with_columns(y=pl.col("y").sqrt()).write_csv(tmp_path / "t.csv")
    status, _, errors = run(line, recipe=recipe)
    assert (status, errors.count("\n")) == (2, 1), errors
    assert reason in errors
    assert os.listdir(tmp_path) == ["t.csv"]


METHODS = {
    "ladder": [],
    "tune_lr": [],
    "tune_batch_size": [],
    "learning_curve": [],
    "cross_validate": [],
    "search": GRID,
    "path": L2,
}


@pytest.mark.parametrize("method", METHODS)
def test_a_folder_of_runs_that_cannot_be_written(run, tmp_path, method):
    (tmp_path / "runs").write_text("a file")
    status, _, errors = run([method, "--trainer.max_epochs", "1", *METHODS[method]])
    assert (status, errors.count("\n")) == (2, 1), errors
    assert "runs" in errors
    assert os.listdir(tmp_path) == ["runs"]
