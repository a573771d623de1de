"""A search in Weights & Biases: a run for each trial, by the real client, offline."""

from torchplug import TabularData, search, use


def test_each_trial_is_a_run_with_its_settings_and_its_value(tmp_path, wandb_home, recorded, capsys):
    found = search(
        {"model": use("linear"), "optimizer": use("sgd")},
        TabularData("diabetes"),
        grid={"model.optimizer.lr": [0.01, 1e30]},
        trainer={"accelerator": "cpu", "max_epochs": 2},
        tracking={"mode": "offline", "project": "study"},
        root=tmp_path / "runs",
        repeats=0,
    )
    assert "offline-run-*" in capsys.readouterr().out
    by_epoch = found.run.metrics.sort("epoch")
    for row in found.trials.to_dicts():
        number = row["trial"]
        seen = recorded(found.run.path, f"*-{number}")
        shown = seen.run()
        assert shown["name"] == f"trial-{number}"
        assert shown["config"]["model/optimizer/lr"] == row["model.optimizer.lr"]
        assert seen.of("run")[0]["run_group"] == found.run.path.name
        assert shown["summary"]["outcome"].startswith(row["state"])
        own = by_epoch.filter(trial=number)["val/loss"].to_list()
        assert [one["val/loss"] for one in seen.rows] == own
        if row["state"] == "complete":
            assert shown["summary"]["val/loss"]["last"] == row["val/loss"]
