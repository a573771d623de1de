"""Predictions that are no locations: a standard deviation is scaled back to the target's units, not shifted."""

import numpy as np
import polars
import pytest

import torchplug
from torchplug import TabularData, use
from torchplug.errors import PluginError

PARTS = """
import torch
from torch.nn.functional import softplus

from torchplug import Loss


class Gaussian(Loss):
    kind = "regression"
    units = ("location", "scale")

    def outputs(self, info):
        return 2 * len(info.columns)

    def link(self, scores):
        mean, spread = scores[:, 0::2], softplus(scores[:, 1::2])
        return torch.stack([mean, spread], 2).flatten(1)

    def point(self, predictions):
        return predictions[:, 0::2]

    def prediction_names(self, info):
        return [f"{column}_{part}" for column in info.columns for part in ("mean", "sd")]

    def forward(self, scores, target):
        predicted = self.link(scores)
        mean, spread = predicted[:, 0::2], predicted[:, 1::2]
        return (spread.log() + 0.5 * ((target - mean) / spread).square()).sum(1)


class Misnamed(Gaussian):
    units = ("location", "spread")


class Three(Gaussian):
    units = ("location", "scale", "none")
"""
QUIET = {"trainer": {"max_epochs": 60, "accelerator": "cpu"}, "tracking": {"mode": "disabled"}}


@pytest.fixture(autouse=True)
def acme(distributions):
    distributions.module("acme_parts", PARTS)
    distributions.offer(
        "acme", *(("losses", name.lower(), f"acme_parts:{name}") for name in ("Gaussian", "Misnamed", "Three"))
    )


def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y, z = 500.0 + 30.0 * x + 80.0 * rng.normal(size=400), -20.0 + x + 2.0 * rng.normal(size=400)
    return TabularData(polars.DataFrame({"x": x, "y": y, "z": z}), target=["y", "z"], batch_size=32)


def test_a_standard_deviation_is_in_units_of_the_target(tmp_path):
    config = {"model": use("mlp", hidden=[4]), "loss": "gaussian", "optimizer": use("adam", lr=0.02)}
    result = torchplug.fit(config, data(), root=tmp_path, **QUIET)
    predicted = result.module.predict(polars.DataFrame({"x": [0.0]}))
    assert predicted.columns == ["y_mean", "y_sd", "z_mean", "z_sd"]
    mean, spread, other, narrow = predicted.row(0)
    assert mean == pytest.approx(500.0, abs=25)
    assert spread == pytest.approx(80.0, rel=0.2)
    assert other == pytest.approx(-20.0, abs=0.7)
    assert narrow == pytest.approx(2.0, rel=0.2)


@pytest.mark.parametrize("loss", ["misnamed", "three"])
def test_units_that_do_not_fit_are_refused(tmp_path, loss):
    with pytest.raises(PluginError, match=f"^loss acme:{loss}: its units .* each of a target's 2 predictions"):
        torchplug.fit({"model": "linear", "loss": loss}, data(), root=tmp_path, **QUIET)
