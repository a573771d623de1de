"""Ensembles: several models that predict as one."""

import numpy as np
import polars as pl
import pytest
import torch

import torchplug
from small_fits import classification, frame, regression
from torchplug import ComponentModule, Ensemble, TabularData, fit_many, use
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint

ADAM = {"optimizer": use("adam", lr=0.1)}
TRAINER = {"max_epochs": 2, "accelerator": "cpu"}
MLP = {"model": use("mlp", hidden=[4]), **ADAM}


def modules(configs, data, **settings):
    return [result.module for result in fit_many(configs, data, trainer=TRAINER, **settings)]


def test_numbers_are_averaged_in_the_units_of_the_target(tmp_path):
    linear, mlp = {"model": use("linear"), **ADAM}, MLP
    members = [
        *modules([linear], regression(standardize_target=True)),
        *modules([mlp, {**mlp, "loss": "l1", "seed": 3}], regression(features=["a", "b"])),
    ]
    ensemble = Ensemble(members)
    rows = frame(8, seed=3).drop("y", "kind")
    expected = np.mean([member.predict(rows)["y"].to_numpy() for member in members], axis=0)
    np.testing.assert_allclose(ensemble.predict(rows)["y"], expected, rtol=1e-12)
    ensemble.save_checkpoint(tmp_path / "e.ckpt")
    loaded = torchplug.load(tmp_path / "e.ckpt")
    assert isinstance(loaded, Ensemble)
    assert loaded.predict(rows).equals(ensemble.predict(rows))
    assert loaded.members[2].resolved.loss.name == "l1"


def test_the_label_is_that_of_the_most_probable_class_on_average():
    members = modules([{**MLP, "loss": "cross_entropy", "seed": seed} for seed in range(5)], TabularData("iris"))
    rows = torchplug.tables.read("iris")
    predicted = Ensemble(members).predict(rows)
    names = [name for name in predicted.columns if name.startswith("probability_")]
    expected = np.mean([member.predict(rows).select(names).to_numpy() for member in members], axis=0)
    np.testing.assert_allclose(predicted.select(names), expected, rtol=1e-12)
    labels = [int(names[place].removeprefix("probability_")) for place in expected.argmax(axis=1)]
    assert predicted["target"].to_list() == labels
    votes = np.array([member.predict(rows)["target"].to_numpy() for member in members])
    assert any(len(set(column)) > 1 for column in votes.T), "members differ"


def test_members_with_other_categories_predict_together(tmp_path):
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"town": [["Rome", "Oslo", "Bonn"][i % 3] for i in range(60)], "y": rng.normal(size=60)})
    data = TabularData(table, "y", batch_size=12, encode="onehot")
    without = {town: np.flatnonzero(table["town"] != town) for town in ("Oslo", "Bonn")}
    members = modules([{"model": use("linear"), **ADAM}], data, folds=[(rows, []) for rows in without.values()])
    assert members[0].preprocessing.feature_names != members[1].preprocessing.feature_names
    rows = table.head(3).drop("y")
    expected = np.mean([member.predict(rows)["y"].to_numpy() for member in members], axis=0)
    np.testing.assert_allclose(Ensemble(members).predict(rows)["y"], expected, rtol=1e-12)


def test_what_does_not_go_together_is_refused():
    (numbers,) = modules([MLP], regression())
    (labels,) = modules([{**MLP, "loss": "bce"}], classification())
    (texts,) = modules([MLP], regression(categories=["a"]))
    for members, reason in {
        (): "at least one member",
        (ComponentModule(**MLP),): "is not trained",
        (numbers, labels): "member 1 predicts kind of 2 classes by a binary loss, and member 0 y by a regression loss",
        (numbers, texts): "member 1 reads a as String, and member 0 as Float64",
    }.items():
        with pytest.raises(ConfigurationError, match=reason):
            Ensemble(members)


def test_damaged_checkpoints_are_refused(tmp_path):
    ensemble = Ensemble(modules([MLP, {**MLP, "seed": 2}], regression()))
    whole, broken = tmp_path / "whole.ckpt", tmp_path / "broken.ckpt"
    ensemble.save_checkpoint(whole)
    content = read_checkpoint(whole)
    first = content["members"][0]
    nan = {name: torch.full_like(value, torch.nan) for name, value in first["state_dict"].items()}
    for members, reason in (
        ("none", "members is str, not a list"),
        ([first, 3], "was not written by torchplug"),
        ([first, {**first, "state_dict": nan}], "NaN or infinite"),
        ([], "at least one member"),
    ):
        write_checkpoint({**content, "members": members}, broken)
        with pytest.raises(CheckpointError, match=reason):
            torchplug.load(broken)
    broken.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(CheckpointError, match="cannot be read"):
        torchplug.load(broken)
