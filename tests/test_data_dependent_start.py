"""Networks that draw their initial parameters for the training rows."""

import polars as pl
import pytest
import torch

from compared_fits import table
from distributed_jobs import launch
from many.single_fits import FOLDS, WITHIN, assert_equal, data, single
from small_fits import trainer
from torchplug import ComponentModule, TabularData, fit_many, use
from torchplug.preprocessing import DataRequirements

PARTS = """
from torch import nn


class Centred(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.seen = None

    def initialize_from(self, features):
        self.seen = features
        self.bias.copy_(-(features @ self.weight.t()).mean(0))

    def forward(self, features):
        return super().forward(features).sinh()
"""
OPTIMIZER = use("adam", lr=0.01)


@pytest.fixture(autouse=True)
def parts(torchplug_distributions):
    """A model whose bias follows from the training rows."""
    torchplug_distributions.module("centred_parts", PARTS)
    torchplug_distributions.offer("centred", ("models", "centred", "centred_parts:Centred"))


def configured(source, **settings):
    """A module that has seen the data."""
    torch.manual_seed(0)
    module = ComponentModule("centred", "mse", OPTIMIZER)
    read = TabularData(source, target="y", features=["x0", "x1", "x2"], **settings)
    read.prepare(module.data_request())
    module.configure(read)
    return module, read


def test_a_small_table_is_seen_whole_and_training_rows_alone():
    module, read = configured(table(200), scale="none")
    torch.testing.assert_close(module.network.seen, read.rows_of("train").read(0, 120).features.float())
    network = module.network
    assert (network.seen @ network.weight.t() + network.bias).mean().abs() < 1e-5
    assert module.network.bias.requires_grad


@pytest.mark.parametrize("stream", [False, True])
def test_rows_of_a_large_table_come_from_all_of_it(tmp_path, stream):
    frame = table(5000).with_columns(x0=pl.int_range(5000).cast(pl.Float64))
    frame.write_parquet(tmp_path / "rows.parquet", row_group_size=100)
    source = tmp_path / "rows.parquet" if stream else frame
    module, _ = configured(source, scale="none", split=[0.8, 0.2], stream=stream)
    seen = module.network.seen
    assert seen.shape == (1024, 3)
    assert len(seen[:, 0].unique()) == 1024
    counts = torch.histc(seen[:, 0], 10, 0, 5000)
    assert counts.min() > 50


def test_a_network_of_your_own_and_one_of_a_checkpoint_keep_their_parameters(tmp_path):
    module, read = configured(table(200))
    run = trainer(tmp_path, max_epochs=1)
    run.fit(module, read)
    run.save_checkpoint(tmp_path / "kept.ckpt")
    loaded = ComponentModule.load_from_checkpoint(tmp_path / "kept.ckpt")
    assert loaded.network.seen is None
    torch.testing.assert_close(loaded.network.bias, module.network.bias)
    own = ComponentModule(loaded.network, "mse", OPTIMIZER)
    read.prepare(own.data_request())
    own.configure(read)
    assert own.network.seen is None


@pytest.mark.parametrize("precision", WITHIN)
def test_models_trained_at_once_start_from_the_rows_of_their_fold(tmp_path, precision):
    configs = [{"model": "centred", "optimizer": OPTIMIZER, "seed": seed} for seed in (0, 1)]
    settings = {"max_epochs": 2, "precision": precision}
    results = fit_many(configs, data(), FOLDS[:2], trainer=settings)
    for number, result in enumerate(results):
        config, fold = configs[number // 2], FOLDS[number % 2]
        assert_equal(result, *single(tmp_path, config, data().fold(*fold), **settings), WITHIN[precision])


def test_ranks_start_alike(tmp_path):
    job = {
        "loss": "mse",
        "optimizer": {"name": "adam", "parameters": {"lr": 0.01}},
        "rows": 101,
        "batch_size": 4,
        "world": 2,
        "trainer": {"max_epochs": 1},
        "fits": {"fit": {"model": {"name": "realmlp", "parameters": {"hidden": [5]}}}},
    }
    first, second = (rank["fit"]["network"] for rank in launch(tmp_path, "steps", job))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)


def test_the_sample_has_the_precision_that_is_trained_in():
    read = TabularData(table(50), target="y", features=["x0"])
    read.prepare(DataRequirements("regression", "mse"))
    assert read.sampled_features(10).shape == (10, 1)
    assert read.sampled_features(10).dtype == torch.float32
