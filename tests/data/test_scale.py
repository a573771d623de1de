"""Scaling by ranks in whole fits: folds, later files, and tables of extremes."""

import numpy as np
import polars as pl
import pytest
import torch

import torchplug
from torchplug import TabularData, use
from torchplug.preprocessing import DataRequirements

REGRESSION = DataRequirements("regression", "mse")
BY_RANK = ["robust", "quantile"]


def table(n=60):
    rng = np.random.default_rng(0)
    x = rng.standard_cauchy(n)
    return pl.DataFrame({"x": x, "z": [None, *np.exp(x[1:] / 9)], "t": rng.choice(list("ab"), n), "y": np.sin(x)})


def fitted(source, **options):
    data = TabularData(source, "y", split=[1.0], **options)
    data.prepare(REGRESSION)
    return data.preprocessing


@pytest.mark.parametrize("scale", BY_RANK)
def test_a_fold_is_scaled_by_its_own_training_rows(scale):
    rows = np.sort(np.random.default_rng(1).permutation(60)[:40])
    fold = TabularData(table(), "y", scale=scale).fold(rows, np.setdiff1d(np.arange(60), rows))
    fold.prepare(REGRESSION)
    assert fold.preprocessing == fitted(table()[rows], scale=scale)
    assert fold.preprocessing != fitted(table(), scale=scale)


@pytest.mark.parametrize("scale", BY_RANK)
def test_a_model_predicts_for_streamed_files(tmp_path, scale):
    table().write_parquet(tmp_path / "t.parquet")
    carried = DataRequirements("regression", "mse", preprocessing=fitted(table(), scale=scale))
    features = []
    for stream in (False, True):
        data = TabularData(tmp_path / "t.parquet", "y", split=[1.0], scale=scale, stream=stream)
        data.prepare(carried)
        features.append(data.training_set.read(0, 60).features)
    torch.testing.assert_close(*features, rtol=0, atol=0)


EXTREME = {
    "far values": (200, {"x": lambda x: np.where(np.arange(len(x)) % 50 == 0, 1e300 * np.sign(x), x)}),
    "five rows": (5, {}),
    "constant": (60, {"flat": lambda x: np.full(len(x), 7.0)}),
    "one value": (60, {"once": lambda x: np.where(np.arange(len(x)) == 3, 2.0, np.nan)}),
    "no value": (60, {"never": lambda x: np.full(len(x), np.nan)}),
    "target outliers": (200, {"y": lambda x: np.where(np.arange(len(x)) == 9, 1e6, np.sin(x))}),
}


@pytest.mark.parametrize("case", EXTREME)
@pytest.mark.parametrize("scale", BY_RANK)
def test_a_network_is_trained_on_extremes(tmp_path, scale, case):
    rows, columns = EXTREME[case]
    frame = table(rows)
    frame = frame.with_columns(pl.Series(name, make(frame["x"].to_numpy())) for name, make in columns.items())
    data = TabularData(frame, "y", split=[1.0], features=[*{"x", "z", "t", *columns} - {"y"}], scale=scale)
    config = {"model": use("mlp", hidden=[8]), "loss": "mse", "optimizer": use("adam", lr=0.01)}
    trainer = {"max_epochs": 30, "accelerator": "cpu"}
    result = torchplug.fit(config, data, trainer=trainer, tracking={"mode": "disabled"}, root=tmp_path)
    assert np.isfinite(result.metrics["train/epoch_loss"])
    predictions = result.module.predict(frame.with_columns(x=pl.lit(1e300)))["y"]
    assert predictions.is_finite().all()
    (checkpoint,) = tmp_path.glob("fit/*/checkpoints/last.ckpt")
    assert torchplug.load(checkpoint).predict(frame).equals(result.module.predict(frame))
