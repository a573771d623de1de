"""Cross-validation in Weights & Biases, by the real client, offline."""

import polars as pl
import pytest

from recipe_calls import call
from small_fits import regression
from torchplug import Run, cross_validate, use

CONFIG = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}


def test_a_run_for_each_fold_and_a_summary_are_one_group(wandb_home, recorded, tmp_path, capsys):
    found = cross_validate(
        CONFIG,
        regression(),
        folds=2,
        trainer={"max_epochs": 3, "accelerator": "cpu"},
        tracking={"mode": "offline", "name": "study", "log_checkpoint": True},
        root=tmp_path / "runs",
    )
    directory = found.run.path
    for fold in range(2):
        seen = recorded(directory, f"*-fold-{fold}")
        assert [row["epoch"] for row in seen.rows] == [0, 1, 2]
        shown = seen.run()
        assert (shown["name"], shown["config"]["fold"]) == (f"study-fold-{fold}", fold)
        assert shown["config"]["model/optimizer/lr"] == 0.1
        assert shown["config"]["cross_validate/folds"] == 2
        assert shown["summary"]["val/rmse"] == found.folds["rmse"][fold]
        assert seen.of("run")[0]["run_group"] == directory.name
    seen = recorded(directory, "*-summary")
    assert seen.of("run")[0]["run_group"] == directory.name
    summary = seen.run()["summary"]
    assert summary["mean/rmse"] == pytest.approx(found.mean["rmse"], rel=1e-12)
    assert (summary["low/rmse"], summary["high/rmse"]) == pytest.approx(found.interval["rmse"], rel=1e-12)
    assert capsys.readouterr().out.count("wandb sync") == 1


def test_testing_the_ensemble_adds_a_run_to_the_group(wandb_home, recorded, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--trainer.max_epochs", "2", "--folds", "2", "--tracking.mode", "offline"]
    assert call(capsys, ["cross_validate", *flags])[0] == 0
    (directory,) = (tmp_path / "runs" / "linear_regression-cross_validate").iterdir()
    assert call(capsys, ["test", "--ckpt_path", str(directory)])[0] == 0
    seen = recorded(directory, "*-test")
    assert seen.of("run")[0]["run_group"] == directory.name
    summary = seen.run()["summary"]
    (row,) = Run(directory).metrics.filter(pl.col("evaluated").is_not_null()).to_dicts()
    assert summary["test/rmse"] == row["test/rmse"]
    assert summary["test_openings"] == 1
