"""What other commands write does not depend on the rows of the test split."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from recipe_processes import run_directories
from torchplug.tracking.checkpoint_file import read_checkpoint

FLAGS = ["--data.source", "table.csv", "--data.target", "y", "--data.split_column", "part", "--trainer.max_epochs", "3"]


def table(other):
    """A table with numbers, gaps, categories and outliers, whose test rows are others where that is asked for."""
    rng = np.random.default_rng(3)
    n = 120
    part = np.array(["train"] * 70 + ["validation"] * 20 + ["test"] * 30)
    frame = pl.DataFrame(
        {
            "a": rng.normal(size=n),
            "b": [None if i % 9 == 0 else float(i % 17) for i in range(n)],
            "town": [["Rome", "Oslo", "Bonn"][i % 3] for i in range(n)],
            "y": rng.normal(size=n),
            "part": part,
        }
    )
    if not other:
        return frame
    test = pl.col("part") == "test"
    return frame.with_columns(
        a=pl.when(test).then(pl.col("a") * 1000 + 7).otherwise("a"),
        b=pl.when(test).then(None).otherwise("b"),
        town=pl.when(test).then(pl.lit("Atlantis")).otherwise("town"),
        y=pl.when(test).then(pl.col("y") * -50).otherwise("y"),
    )


def plain(value):
    """A checkpoint's content with tensors as lists, without which tables these are."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if key not in ("fingerprints", "dirpath")}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def content(directory):
    """What the files of a run hold, by name, but for its paths, its times and the fingerprint of the table."""
    found = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.name != ".lock"):
        name = str(path.relative_to(directory))
        if path.suffix == ".ckpt":
            text = json.dumps(plain(read_checkpoint(path)), default=str)
            found[name] = text.replace(str(directory), "RUN")
        elif path.name == "provenance.json":
            provenance = json.loads(path.read_text())
            found[name] = {key: provenance[key] for key in provenance.keys() - {"data", "started", "git"}}
        elif path.suffix == ".parquet":
            found[name] = pl.read_parquet(path).to_dicts()
        else:
            found[name] = path.read_bytes()
    return found


def written(run, folder, monkeypatch, other):
    """All that fit, validate, predict and cross_validate write, and print."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    table(other).write_csv("table.csv")
    table(False).head(10).write_csv("new.csv")
    printed = {}
    for command in (
        ["fit", *FLAGS],
        ["validate"],
        ["predict", "--data.source", "new.csv", "--output", "predictions.csv"],
        ["cross_validate", "--folds", "3", *FLAGS],
    ):
        status, printed[command[0]], errors = run(command)
        assert (status, errors) == (0, "")
    runs = {}
    for family in ("linear_regression", "linear_regression-cross_validate"):
        (directory,) = run_directories(folder, family)
        runs[family] = content(directory)
        printed = {name: text.replace(directory.name, "RUN") for name, text in printed.items()}
    return runs, printed, Path("predictions.csv").read_bytes()


@pytest.mark.filterwarnings("ignore:.*undefined on this part")
def test_other_test_rows_change_nothing(run, tmp_path, monkeypatch):
    runs, printed, predictions = written(run, tmp_path / "one", monkeypatch, other=False)
    others, printed_of_others, predictions_of_others = written(run, tmp_path / "two", monkeypatch, other=True)
    assert printed == printed_of_others
    assert predictions == predictions_of_others
    for family, files in runs.items():
        assert files.keys() == others[family].keys()
        for name in files:
            assert files[name] == others[family][name], f"{family}: {name}"
