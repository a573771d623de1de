"""Many models in Weights & Biases: a run for each configuration, by the real client, offline."""

import warnings

import numpy as np
import pytest

from many.interrupting import interrupted_after
from many.single_fits import FOLDS, data
from torchplug import fit_many, use

RATES = (0.01, 0.1, 1e30)
CONFIGS = [{"model": use("linear"), "optimizer": use("sgd", lr=rate)} for rate in RATES]
OFFLINE = {"mode": "offline", "project": "study", "tags": ["a"]}


@pytest.fixture
def fit(tmp_path, wandb_home):
    def fitted(epochs=3, folds=FOLDS[:2], configs=CONFIGS, **options):
        trainer = {"accelerator": "cpu", "max_epochs": epochs, "precision": "64-true"}
        options = {"tracking": OFFLINE, "root": tmp_path / "runs", **options}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fit_many(configs, data(), folds, trainer, **options)

    return fitted


@pytest.fixture
def seen(recorded):
    """What the W&B run of a configuration holds."""
    return lambda run, number: recorded(run.path, f"*-{number}")


def of_folds(values, expected):
    """Whether they are mean and standard deviation over folds."""
    np.testing.assert_allclose(values, [np.mean(expected), np.std(expected)], rtol=1e-12)


def test_each_configuration_is_a_run_of_means_over_folds(fit, seen, capsys):
    results = fit()
    run = results[0].run
    for number in range(2):
        found = seen(run, number)
        assert [row["epoch"] for row in found.rows] == [0, 1, 2]
        for epoch, row in enumerate(found.rows):
            of_epoch = run.metrics.filter(epoch=epoch, configuration=number)
            assert (row["step"], row["folds"]) == (of_epoch["step"].max(), 2)
            for name in ("val/loss", "train/epoch_loss"):
                of_folds([row[f"{name}_mean"], row[f"{name}_sd"]], of_epoch[name].to_numpy())
        shown = found.run()
        summary = shown["summary"]
        last = [result.metrics["val/rmse"] for result in results[2 * number : 2 * number + 2]]
        of_folds([summary["val/rmse_mean"], summary["val/rmse_sd"]], last)
        assert summary["val/loss_mean"]["min"] == min(row["val/loss_mean"] for row in found.rows)
        assert summary["outcome"] == "limit"
        assert shown["config"]["model/optimizer/lr"] == RATES[number]
        assert shown["config"]["provenance"]["data"] == run.provenance["data"]
        assert (shown["project"], shown["name"], shown["state"]) == ("study", f"configuration-{number}", "finished")
        (header,) = found.of("run")
        assert (header["run_group"], header["tags"]) == (run.path.name, ["a"])
    diverged = seen(run, 2)
    assert diverged.rows == []
    assert (diverged.run()["state"], diverged.run()["summary"]["outcome"]) == ("failed", "stalled")
    printed = capsys.readouterr().out
    assert printed.count("wandb sync") == 1
    assert "offline-run-*" in printed


def test_a_single_fold_has_the_names_of_an_ordinary_fit(fit, seen):
    results = fit(folds=None, configs=CONFIGS[:1], tracking={**OFFLINE, "name": "mine", "group": "g", "id": "abc"})
    found = seen(results[0].run, 0)
    own = {"configuration", "fold"}
    table = results[0].run.metrics.to_dicts()
    assert found.rows == [{name: value for name, value in row.items() if name not in own} for row in table]
    shown = found.run()
    assert shown["summary"]["val/rmse"] == results[0].metrics["val/rmse"]
    assert (shown["name"], shown["run_id"]) == ("mine-0", "abc-0")
    assert found.of("run")[0]["run_group"] == "g"


def test_checkpoints_of_all_folds_are_sent_where_that_is_asked_for(fit, seen):
    run = fit(configs=CONFIGS[::2], tracking={**OFFLINE, "log_checkpoint": True})[0].run
    (artifact,) = seen(run, 0).of("artifact")
    assert artifact["type"] == "model"
    assert [file["path"] for file in artifact["manifest"]["contents"]] == ["fold-0.ckpt", "fold-1.ckpt"]
    assert seen(run, 1).of("artifact") == [], "one that diverged is not sent"


def test_an_interrupted_fit_is_seen_and_when_resumed_holds_every_row_once(tmp_path, fit, seen):
    with interrupted_after(8, tmp_path / "runs"):
        run = fit(epochs=20, configs=CONFIGS[:2])[0].run
    shown = seen(run, 0).run()
    assert (shown["state"], shown["summary"]["outcome"]) == ("failed", "interrupted")
    assert fit(epochs=20, configs=CONFIGS[:2], ckpt_path="last", tracking=None)[0].run == run
    again = seen(run, 0)
    assert [row["epoch"] for row in again.rows] == list(range(20))
    assert again.run()["state"] == "finished"
    assert len(list((run.path / "wandb" / "superseded").iterdir())) == 2
    fit(epochs=20, configs=CONFIGS[:2], ckpt_path="last", tracking=None)
    assert len(list((run.path / "wandb" / "superseded").iterdir())) == 2, "what is finished is not sent again"


def test_disabled_makes_nothing(fit):
    run = fit(tracking={"mode": "disabled"}, configs=CONFIGS[:1])[0].run
    assert not (run.path / "wandb").exists()
