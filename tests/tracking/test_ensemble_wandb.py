"""Ensembles in Weights & Biases, by the real client, offline."""

import pytest

from recipe_calls import call
from small_fits import regression
from torchplug import Run, fit_ensemble, use

CONFIG = {"model": use("mlp", hidden=[4]), "optimizer": use("adam", lr=0.1)}


def test_an_ensemble_is_one_run(wandb_home, recorded, tmp_path, capsys):
    found = fit_ensemble(
        CONFIG,
        regression(),
        members=3,
        trainer={"max_epochs": 4, "accelerator": "cpu"},
        tracking={"mode": "offline", "name": "three", "log_checkpoint": True},
        root=tmp_path / "runs",
    )
    seen = recorded(found.run.path)
    assert [row["epoch"] for row in seen.rows] == [0, 1, 2, 3]
    losses = found.run.metrics.filter(epoch=2)["val/loss"]
    assert seen.rows[2]["val/loss_mean"] == pytest.approx(losses.mean(), rel=1e-12)
    assert seen.rows[2]["val/loss_sd"] == pytest.approx(losses.std(ddof=0), rel=1e-9)
    shown = seen.run()
    assert shown["name"] == "three"
    assert shown["config"]["ensemble/members"] == 3
    assert shown["config"]["model/optimizer/lr"] == 0.1
    assert shown["summary"]["val/rmse"] == found.metrics["val/rmse"]
    assert shown["summary"]["val/rmse_mean"] == pytest.approx(found.mean["val/rmse"], rel=1e-12)
    assert capsys.readouterr().out.count("wandb sync") == 1


def test_testing_it_adds_a_run_to_its_group(wandb_home, recorded, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = ["--trainer.max_epochs", "2", "--ensemble", "2", "--ensemble_by", "bootstrap", "--tracking.mode", "offline"]
    assert call(capsys, ["fit", *flags])[0] == 0
    (directory,) = (tmp_path / "runs" / "linear_regression").iterdir()
    assert call(capsys, ["test"])[0] == 0
    summary = recorded(directory, "*-test").run()["summary"]
    assert summary["test/rmse"] == Run(directory).metrics["test/rmse"].drop_nulls()[0]
