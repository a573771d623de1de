"""The command `fit --ensemble`, and what reads its run."""

import json
import re

import numpy as np
import polars as pl
import pytest

import torchplug
from recipe_calls import call
from recipe_processes import interrupted, run_directories

SHORT = ["--data.source", "iris", "--trainer.max_epochs", "3", "--model.model", "mlp"]
FIT = ["fit", "--ensemble", "3", *SHORT]


def the_run(folder, recipe="mlp"):
    (directory,) = run_directories(folder, recipe)
    return directory


def test_fit_validate_test_and_predict(run, tmp_path):
    status, printed, errors = run(FIT, recipe="mlp")
    assert (status, errors) == (0, "")
    directory = the_run(tmp_path)
    assert "note: chosen for 90 rows × 4 features (multiclass)" in printed
    assert "note: training 3 models in 1 program" in printed
    *_, line, place = printed.splitlines()
    assert place == f"run: {directory.relative_to(tmp_path)}"
    (final,) = torchplug.Run(directory).metrics.filter(pl.col("configuration").is_null()).to_dicts()
    mean, deviation = final["val/accuracy_mean"], final["val/accuracy_sd"]
    shown = f"{final['val/accuracy']:.4g} (members {mean:.4g} ± {deviation:.2g})"
    assert line == f"ensemble of 3: val/accuracy {shown}"
    for which in ("best", "last", str(directory)):
        status, printed, errors = run(["validate", "--ckpt_path", which, *SHORT[:2]], recipe="mlp")
        assert (status, errors) == (0, "")
        assert f"{final['val/log_loss']:.6g}" in printed
    assert "trained on rows of the validation split" not in printed
    status, printed, errors = run(["test"], recipe="mlp")
    assert (status, errors) == (0, "")
    status, printed, _ = run(["predict", "--spread", "--output", "p.csv"], recipe="mlp")
    assert (status, printed.splitlines()[-1]) == (0, "150 predictions: p.csv")
    table, members = pl.read_csv(tmp_path / "p.csv"), torchplug.load(directory).members
    assert table.columns[-3:] == ["spread_0", "spread_1", "spread_2"]
    rows = torchplug.tables.read("iris")
    each = [member.predict(rows)["probability_1"].to_numpy() for member in members]
    np.testing.assert_allclose(table["probability_1"], np.mean(each, axis=0), rtol=1e-9)
    np.testing.assert_allclose(table["spread_1"], np.std(each, axis=0), rtol=1e-9)


@pytest.mark.parametrize("recipe", ["linear_regression", "logistic_regression"])
def test_linear_models_by_bootstrap(run, tmp_path, recipe):
    flags = ["--ensemble", "3", "--ensemble-by", "bootstrap", "--trainer.max_epochs", "3"]
    status, printed, errors = run(["fit", *flags], recipe=recipe)
    assert (status, errors) == (0, "")
    assert "note: training 3 models in 1 program" in printed
    assert re.search(r"^ensemble of 3: val/(rmse|accuracy) \S+ \(members \S+ ± \S+\)$", printed, re.MULTILINE)
    assert "trained on rows of" not in run(["validate"], recipe=recipe)[1]
    status, *_ = run(["predict", "--output", "p.csv", "--spread", "true"], recipe=recipe)
    assert status == 0
    assert "spread" in pl.read_csv(tmp_path / "p.csv").columns[-1]


def test_full_batch_optimizers_are_trained_one_by_one(run, tmp_path):
    flags = ["--ensemble", "3", "--ensemble_by", "bootstrap", "--model.optimizer", "closed_form"]
    status, printed, errors = run(["fit", *flags])
    assert (status, errors) == (0, "")
    assert "3 models one by one (closed_form sees the whole training set)" in printed
    assert "note: best is that of" in run(["test"])[1]


def test_by_folds_the_validation_split_has_no_unseen_rows(run, tmp_path):
    status, printed, errors = run([*FIT, "--ensemble_by", "folds"], recipe="mlp")
    assert (status, errors) == (0, "")
    assert "each on the fold that it was not trained on" in printed
    noted = "members of the ensemble were trained on rows of the validation split too: test has unseen rows"
    assert noted in run(["validate"], recipe="mlp")[1]
    assert "trained on rows" not in run(["test"], recipe="mlp")[1]


@pytest.mark.parametrize(
    ("recipe", "flags", "reason"),
    [
        ("mlp", ["--ensemble", "1"], "an ensemble has at least 2 members, not 1"),
        ("mlp", ["--ensemble", "many"], "--ensemble: expected int"),
        ("mlp", ["--ensemble", "2", "--ensemble_by", "rows"], "--ensemble_by: expected"),
        ("mlp", ["--ensemble_by", "folds"], "--ensemble_by has no effect without --ensemble"),
        ("logistic_regression", ["--ensemble", "2"], "linear starts at the same parameters from every seed"),
        ("mlp", ["--ensemble", "41", "--ensemble_by", "folds"], "class 0 has 40 rows for 41 folds"),
        ("mlp", ["--ensemble", "2", "--trainer.accelerator", "cpu", "--trainer.devices", "2"], "in one process"),
        ("mlp", ["--ensemble", "2", "--ckpt_path", "last"], "no run of mlp in runs can be resumed"),
    ],
)
def test_refused_in_one_line(run, tmp_path, recipe, flags, reason):
    source = SHORT if recipe == "mlp" else []
    status, _, errors = run(["fit", *source, *flags], recipe=recipe)
    assert (status, errors.count("\n")) == (2, 1)
    assert reason in errors
    assert not (tmp_path / "runs").exists()


def test_a_single_model_has_no_spread_and_is_no_ensemble_to_go_on_with(run, tmp_path):
    assert run(["fit", *SHORT], recipe="mlp")[0] == 0
    directory = str(the_run(tmp_path))
    assert "ensemble" not in torchplug.Run(directory).config
    for line, reason in (
        (["predict", "--spread", "--output", "p.csv"], "one model has no spread"),
        ([*FIT, "--ckpt_path", directory], "is no run of many models"),
    ):
        status, _, errors = run(line, recipe="mlp")
        assert (status, errors.count("\n")) == (2, 1)
        assert reason in errors
    assert not (tmp_path / "p.csv").exists()


def test_an_ensemble_goes_on_with_its_own_command_alone(run, tmp_path):
    assert run(FIT, recipe="mlp")[0] == 0
    status, _, errors = run(["fit", "--ckpt_path", "last"], recipe="mlp")
    assert (status, errors.count("\n")) == (2, 1)
    assert "goes on by the command that began it, with --ensemble" in errors
    assert run(["validate"], recipe="mlp")[0] == 0
    assert run([*FIT, "--ckpt_path", "last", "--trainer.max_epochs", "5"], recipe="mlp")[0] == 0
    rows = torchplug.Run(the_run(tmp_path)).metrics
    assert rows["evaluated"].drop_nulls().to_list() == ["ensemble.ckpt"]
    assert rows.filter(pl.col("configuration").is_null(), pl.col("evaluated").is_null()).height == 1
    assert json.loads((the_run(tmp_path) / "outcome.json").read_text())["epochs"] == 5


def test_if_all_members_diverge_it_ends_with_status_3(run, tmp_path):
    flags = ["--model.optimizer", "sgd", "--model.optimizer.lr", "1e30", "--model.scheduler", "null"]
    status, _, errors = run([*FIT, *flags], recipe="mlp")
    assert (status, errors.count("\n")) == (3, 1)
    assert "no member of the ensemble can be used" in errors


def test_an_interrupted_run_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    arguments = ["fit", "--ensemble", "3", "--data.source", "iris", "--trainer.max_epochs", "300"]
    command = interrupted(tmp_path, "mlp", *arguments)
    assert command[:-1] == [*arguments, "--ckpt_path"]
    assert not (the_run(tmp_path) / "checkpoints" / "ensemble.ckpt").exists()
    monkeypatch.chdir(tmp_path)
    assert call(capsys, command, "mlp")[0] == 0
    assert json.loads((the_run(tmp_path) / "outcome.json").read_text())["epochs"] == 300
