"""`torchplug.search`: which trials are tried, what each comes to, and what is written."""

import json
import math

import numpy as np
import polars as pl
import pytest
import scipy.stats
import yaml

import torchplug
from compared_fits import table
from torchplug import TabularData, use
from torchplug.errors import ConfigurationError
from workflow.search.searches import RATES, data, linear, own_fit, search


def configuration(values):
    """What a trial of `test_each_trial_is_its_own_fit` is, written out."""
    name = values["model.optimizer"]
    parameters = {"lr": float(values["model.optimizer.lr"])}
    if values.get("model.optimizer.betas") is not None:
        parameters["betas"] = json.loads(values["model.optimizer.betas"])
    return {
        "model": use("mlp", hidden=json.loads(values["model.model.hidden"])),
        "loss": use("mse"),
        "optimizer": use(name, **parameters),
        "regularizers": [use("l2", coefficient=values["model.regularizers.0.coefficient"])],
    }


def test_each_trial_is_its_own_fit(tmp_path):
    config = {**linear(), "model": use("mlp", hidden=[4]), "regularizers": [use("l2", coefficient=1.0)]}
    found = search(
        tmp_path,
        config,
        grid=["model.optimizer=adam,nesterov", "model.optimizer.betas=[0.8,0.99],[0.5,0.9]"],
        random={
            "model.optimizer.lr": "log(1e-3,1e-1)",
            "model.regularizers.0.coefficient": "log(1e-6,1e-1)",
            "model.model.hidden": ["[4]", "[3, 3]"],
            "data.batch_size": [16, 25],
            "trainer.max_epochs": "int(1,3)",
        },
        trials=9,
        metric="val/mae",
        seed=3,
    )
    assert found.trials["trial"].to_list() == list(range(9))
    assert found.trials["state"].unique().to_list() == ["complete"]
    for row in found.trials.to_dicts():
        assert (row["model.optimizer.betas"] is None) == (row["model.optimizer"] == "nesterov")
        assert row["epochs"] == row["trainer.max_epochs"]
        tables = data(batch_size=int(row["data.batch_size"]))
        own = own_fit(tmp_path, configuration(row), tables, int(row["trainer.max_epochs"]), seed=3)
        assert row["val/mae"] == pytest.approx(own.metrics["val/mae"], rel=1e-4)
    assert found.best_value == found.trials["val/mae"].min()
    assert found.best_trial == found.trials.sort("val/mae")["trial"][0]


def test_programs_and_their_models_are_counted(tmp_path):
    grid = {**RATES, "model.model.hidden": [[4], [3, 3]]}
    found = search(tmp_path, {**linear(), "model": use("mlp", hidden=[4])}, grid=grid, epochs=1)
    assert "trained 6 models in 2 programs" in found.notes
    assert found.run.notes == list(found.notes)
    assert found.trials.select("model.model.hidden", "model.optimizer.lr").unique().height == 6


def test_models_that_share_no_program_are_trained_one_by_one(tmp_path):
    config = linear(optimizer=use("closed_form"), regularizers=[use("l2", coefficient=1.0)])
    found = search(tmp_path, config, grid={"model.regularizers.0.coefficient": [0.01, 1.0]}, epochs=1)
    assert "trained 2 models one by one (closed_form sees the whole training set)" in found.notes
    for coefficient, value in found.trials.select("model.regularizers.0.coefficient", "val/loss").rows():
        own = linear(optimizer=use("closed_form"), regularizers=[use("l2", coefficient=coefficient)])
        assert value == pytest.approx(own_fit(tmp_path, own, data(), 1).metrics["val/loss"], rel=1e-6)


def test_a_grid_is_tried_whole_or_in_part(tmp_path):
    grid = {**RATES, "data.batch_size": [15, 16, 17]}
    whole, part = (search(tmp_path, grid=grid, epochs=1, trials=trials) for trials in (None, 4))
    pairs = [found.trials.select("model.optimizer.lr", "data.batch_size").rows() for found in (whole, part)]
    assert sorted(pairs[0]) == [(rate, size) for rate in RATES["model.optimizer.lr"] for size in (15, 16, 17)]
    assert pairs[1] == pairs[0][:4]


def test_values_are_drawn_from_their_ranges_and_lists_of_a_grid_equally_often(tmp_path):
    tables = TabularData(table(12).select("x0", "y"), "y", batch_size=8)
    found = search(
        tmp_path,
        tables=tables,
        config=linear(regularizers=[use("l2", coefficient=1.0)]),
        grid={"model.optimizer": ["adam", "rmsprop", "sgd"]},
        random={"model.optimizer.lr": "uniform(0.01,0.05)", "model.regularizers.0.coefficient": "log(1e-6,1e-1)"},
        trials=120,
        epochs=1,
    )
    assert found.trials["model.optimizer"].value_counts()["count"].to_list() == [40, 40, 40]
    logs = np.log10(found.trials["model.regularizers.0.coefficient"].to_numpy())
    assert scipy.stats.kstest((logs + 6) / 5, "uniform").pvalue > 0.01
    rates = (found.trials["model.optimizer.lr"].to_numpy() - 0.01) / 0.04
    assert scipy.stats.kstest(rates, "uniform").pvalue > 0.01


def test_tpe_finds_better_trials_than_chance(tmp_path):
    config = linear(regularizers=[use("l2", coefficient=1.0)])
    random = {"model.regularizers.0.coefficient": "log(1e-4,1e4)"}
    found = search(tmp_path, config, random=random, sampler="tpe", trials=40, trainer={"max_epochs": 1})
    values = found.trials.sort("trial")["val/loss"].to_numpy()
    assert np.median(values[16:]) < np.median(values[:16])  # the first are drawn at random


def test_trials_that_diverge_are_told_and_do_not_win(tmp_path):
    found = search(tmp_path, linear(optimizer=use("sgd")), grid={"model.optimizer.lr": [0.01, 1e30, 1e35]}, epochs=3)
    states = dict(found.trials.select("model.optimizer.lr", "state").rows())
    assert states == {0.01: "complete", 1e30: "diverged", 1e35: "diverged"}
    assert found.best == {"model.optimizer.lr": 0.01}
    (note,) = [note for note in found.notes if "diverged" in note]
    assert note == "2 of 3 trials diverged (67%): all have model.optimizer.lr of at least 1e+30; lower the upper end"


def test_a_search_in_which_all_diverge_has_no_best_trial(tmp_path):
    found = search(tmp_path, linear(optimizer=use("sgd")), grid={"model.optimizer.lr": [1e30, 1e35]}, epochs=3)
    assert found.best is found.best_value is found.config is None
    assert "no trial is complete, so that there is no best one" in found.notes
    assert not (found.run.path / "best.yaml").exists()


@pytest.mark.parametrize(("rates", "noted"), [([0.001, 0.01, 0.1], True), ([0.01, 0.1, 1e4], False)])
def test_a_best_value_at_an_edge_is_noted(tmp_path, rates, noted):
    found = search(tmp_path, grid={"model.optimizer.lr": rates})
    assert found.best == {"model.optimizer.lr": 0.1}
    note = "the best model.optimizer.lr is 0.1, at the upper edge of 0.001,0.01,0.1: better values may lie beyond, "
    assert any(own.startswith(note) for own in found.notes) == noted


def test_the_best_trial_is_repeated_from_other_seeds(tmp_path):
    config = {**linear(), "model": use("mlp", hidden=[4])}
    found = search(tmp_path, config, grid=RATES, repeats=3, seed=5)
    own = [own_fit(tmp_path, found.config, data(), seed=seed).metrics["val/loss"] for seed in (6, 7, 8)]
    assert found.repeats.values == pytest.approx(own, rel=1e-4)
    assert found.repeats.mean == pytest.approx(np.mean(own), rel=1e-4)
    assert found.repeats.sd == pytest.approx(np.std(own, ddof=1), rel=1e-3)
    assert any(note.startswith("the best trial from 3 other seeds: val/loss ") for note in found.notes)


def test_what_is_written(tmp_path):
    found = search(tmp_path, grid=RATES, random={"data.batch_size": "int(10,20)"}, trials=6)
    folder = found.run.path
    assert pl.read_csv(folder / "trials.csv").drop("reason").equals(found.trials.drop("reason"))
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best["model"]["optimizer"]["init_args"]["lr"] == found.best["model.optimizer.lr"]
    assert best["data"]["batch_size"] == found.best["data.batch_size"]
    for picture in ("importances.png", "coordinates.png", "slices.png"):
        assert (folder / picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert sum(found.importances.values()) == pytest.approx(1.0)
    assert found.run.outcome["reason"] == "6 trials: 6 complete"
    assert found.run.config["search"]["grid"] == ["model.optimizer.lr=0.003,0.03,0.3"]
    last = found.run.metrics.sort("epoch").group_by("trial", maintain_order=True).last().sort("trial")
    assert last["val/loss"].to_list() == found.trials["val/loss"].to_list()
    assert torchplug.runs(tmp_path) == [found.run]
    own = own_fit(tmp_path, found.config, found.data)
    assert own.metrics["val/loss"] == pytest.approx(found.best_value, rel=1e-4)


def test_rows_of_the_test_split_change_nothing(tmp_path):
    part = pl.Series("part", ["train"] * 90 + ["validation"] * 30 + ["test"] * 30)
    one = table(150).select("x0", "x1", "y").with_columns(part)
    is_test = pl.col("part") == "test"
    other = one.with_columns(
        pl.when(is_test).then(pl.col(name) * -50 + 3).otherwise(name).alias(name) for name in ["x0", "y"]
    )
    found = [
        search(tmp_path, tables=TabularData(frame, "y", split_column="part"), grid=RATES, folds=folds, repeats=1)
        for frame in (one, other)
        for folds in (None, 3)
    ]
    for mine, its in zip(found[:2], found[2:], strict=True):
        assert mine.trials.equals(its.trials)
        assert mine.repeats == its.repeats


# ---------------------------------------------------------------------- folds and pruning


def test_with_folds_a_trial_is_the_mean_of_its_folds(tmp_path):
    found = search(tmp_path, grid=RATES, folds=3, seed=4)
    folds = data().folds(3, seed=4, kind="regression")
    for row in found.trials.to_dicts():
        config = linear(optimizer=use("adam", lr=row["model.optimizer.lr"]))
        values = [own_fit(tmp_path, config, data().fold(*fold), seed=4).metrics["val/loss"] for fold in folds]
        assert [row[f"val/loss, fold {fold}"] for fold in range(3)] == pytest.approx(values, rel=1e-4)
        assert row["val/loss"] == pytest.approx(np.mean(values), rel=1e-4)


@pytest.mark.parametrize("folds", [None, 2])
def test_halving_keeps_the_best_third(tmp_path, folds):
    rates = np.geomspace(1e-4, 1e-1, 9).tolist()
    found = search(tmp_path, grid={"model.optimizer.lr": rates}, pruner="halving", epochs=5, folds=folds)
    rows = found.run.metrics.group_by("trial", "epoch").agg(pl.mean("val/loss"))
    going = set(range(9))
    expected = {}
    for rung in (1, 3):
        values = dict(
            rows.filter(pl.col("epoch") == rung - 1, pl.col("trial").is_in(going)).select("trial", "val/loss").rows()
        )
        kept = set(sorted(values, key=values.get)[: max(1, len(values) // 3)])
        expected |= dict.fromkeys(going - kept, rung)
        going = kept
    expected |= dict.fromkeys(going, 5)
    assert dict(found.trials.select("trial", "epochs").rows()) == expected
    states = dict(found.trials.select("trial", "state").rows())
    assert {trial for trial, state in states.items() if state == "complete"} == going
    assert len(going) == 1


def test_halving_of_models_that_are_trained_one_by_one(tmp_path):
    config = linear(engine="autograd")
    found = search(tmp_path, config, grid={"model.optimizer.lr": [0.3, 0.001, 0.0001]}, pruner="halving", epochs=3)
    rows = {(row["trial"], row["epoch"]): row["val/loss"] for row in found.run.metrics.to_dicts()}
    best = -math.inf
    for trial in range(3):  # each is compared with those before it alone
        best = max(best, -rows[trial, 0])
        expected = ("complete", 3) if -rows[trial, 0] == best else ("pruned", 1)
        assert found.trials.select("state", "epochs").row(trial) == expected


def test_wilcoxon_leaves_folds_out_of_trials_that_are_worse(tmp_path):
    rates = [0.1, *np.geomspace(1e-5, 1e-4, 15).tolist()]
    found = search(tmp_path, grid={"model.optimizer.lr": rates}, pruner="wilcoxon", folds=6, epochs=2)
    folds = [name for name in found.trials.columns if ", fold " in name]
    counts = found.trials.select(pl.sum_horizontal(pl.col(name).is_not_null() for name in folds)).to_series().to_list()
    states = found.trials["state"].to_list()
    assert all((count < 6) == (state == "pruned") for count, state in zip(counts, states, strict=True))
    assert states.count("pruned") >= 5
    # the first batch of 8 has nothing to be compared with; of the later ones p < 0.1 after four folds that are worse
    assert {count for count, state in zip(counts, states, strict=True) if state == "pruned"} == {4}
    assert scipy.stats.wilcoxon([1.0, 2.0, 3.0, 4.0], alternative="greater").pvalue < 0.1
    assert scipy.stats.wilcoxon([1.0, 2.0, 3.0], alternative="greater").pvalue > 0.1


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({}, "there is nothing to search"),
        ({"grid": {}, "random": {}}, "there is nothing to search"),
        ({"grid": {"model.optimiser.lr": [1]}}, "unknown setting model.optimiser.lr; did you mean model.optimizer"),
        ({"grid": {"model.optimizer.lrr": [1]}}, "unknown parameter 'lrr', did you mean lr?"),
        ({"grid": {"model.optimizer.lr": ["a", "b"]}}, "--grid model.optimizer.lr: expected float, got a"),
        ({"grid": {"model.optimizer.lr": [0.1, -1]}}, "lr must be positive and finite, got -1"),
        ({"random": {"data.batch_size": "uniform(1,9)"}}, "--random data.batch_size: expected int"),
        ({"random": {"data.batch_size": "int(0,9)"}}, "batch_size must be a whole number of at least 1"),
        ({"grid": {"data.seed": [1, 2]}}, "data.seed decides which rows are validated"),
        ({"grid": {"model.optimizer": ["adam", "adamm"]}}, "unknown optimizer 'adamm'"),
        ({"grid": {"model.regularizers.0.coefficient": [1]}}, "there is none; --model.regularizers+=NAME adds one"),
        ({"random": {"model.optimizer.lr": "log(1e-3,1)"}, "sampler": "grid"}, "a grid has no log(0.001,1.0)"),
        ({"grid": RATES, "random": RATES}, "is given by --grid and by --random"),
        ({"grid": RATES, "trials": 0}, "--trials must be at least 1, not 0"),
        ({"grid": RATES, "jobs": 0}, "--jobs must be at least 1, not 0"),
        ({"grid": RATES, "folds": 1}, "folds must be a whole number of at least 2"),
        ({"grid": RATES, "metric": "val/rmsee"}, "did you mean val/rmse"),
        ({"grid": {"model.loss": ["mse", "l1"]}}, "model.loss changes what val/loss measures"),
        ({"grid": RATES, "pruner": "halving", "metric": "val/mae"}, "--pruner halving compares trials by val/loss"),
        ({"grid": RATES, "pruner": "wilcoxon"}, "--pruner wilcoxon compares trials fold by fold"),
        ({"grid": RATES, "storage": "here.db"}, "--storage here.db is no URL"),
        ({"grid": RATES, "storage": "sqlite:////nowhere/there.db"}, "the database cannot be opened or written"),
        ({"grid": RATES, "tables": data(split=[1.0])}, "there are no validation rows"),
        ({"grid": RATES, "tracking": {"log_checkpoint": True}}, "a search keeps no checkpoints"),
        ({"grid": RATES, "trainer": {"enable_checkpointing": True}}, "enable_checkpointing follows from"),
        ({"grid": RATES, "resume": "last"}, "there is no run in"),
        ({"grid": {"model.model.hidden": [[3]]}, "config": linear(model=use("linear"))}, "unknown parameter 'hidden'"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_anything_is_written(tmp_path, settings, reason):
    with pytest.raises(torchplug.TorchplugError) as caught:
        search(tmp_path, **settings)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_your_own_is_trained_but_not_searched(tmp_path):
    from torch import nn

    config = {**linear(), "model": nn.Linear(3, 1)}
    found = search(tmp_path, config, grid=RATES)
    assert found.trials.height == 3
    with pytest.raises(ConfigurationError, match=r"model\.model is a module of your own"):
        search(tmp_path, config, grid={"model.model": ["linear", "mlp"]})
