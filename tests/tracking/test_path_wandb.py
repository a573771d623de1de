"""A regularization path in Weights & Biases: one run with a step for each λ, by the real client, offline."""

import pytest

from torchplug import TabularData, path, use

RIDGE = {"model": "linear", "loss": "mse", "regularizers": [use("l2")], "optimizer": "closed_form"}


def test_a_path_is_a_run_with_a_step_for_each_lambda(tmp_path, wandb_home, recorded, capsys):
    found = path(
        RIDGE,
        TabularData("diabetes"),
        coefficient="log(1e-3,1)",
        points=4,
        folds=3,
        metric="rmse",
        tracking={"mode": "offline", "project": "study", "name": "ridge"},
        root=tmp_path / "runs",
    )
    assert "offline-run-*" in capsys.readouterr().out
    seen = recorded(found.run.path, "*-path")
    shown = seen.run()
    assert shown["name"] == "ridge"
    assert shown["config"]["path/metric"] == "rmse"
    assert shown["config"]["model/optimizer"] == "torchplug-second-order:closed_form"
    assert seen.of("run")[0]["run_group"] == found.run.path.name
    assert seen.of("run")[0]["project"] == "study"
    assert (shown["summary"]["best"], shown["summary"]["best_1se"]) == (found.best, found.best_1se)
    assert shown["summary"]["path/mean"]["min"] == pytest.approx(found.table["mean"].min())
    rows = seen.rows
    assert [row["step"] for row in rows] == [0, 1, 2, 3]
    for column in ("coefficient", "mean", "standard_error", "fold_0", "fold_2", "nonzero"):
        assert [row[f"path/{column}"] for row in rows] == found.table[column].to_list()
    assert "path/leave_one_out" not in rows[0]  # of the loss alone


def test_a_metric_where_more_is_better(tmp_path, wandb_home, recorded):
    config = {"model": "linear", "loss": "cross_entropy", "regularizers": [use("l2")], "optimizer": "newton"}
    options = {"coefficient": [0.1, 0.01], "folds": 3, "metric": "accuracy", "root": tmp_path / "runs"}
    found = path(config, TabularData("iris"), tracking={"mode": "offline"}, **options)
    summary = recorded(found.run.path, "*-path").run()["summary"]
    assert summary["path/mean"]["max"] == pytest.approx(found.table["mean"].max())
