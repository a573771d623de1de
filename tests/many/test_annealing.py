"""Networks with `anneal` that are trained at once are told what their own fits tell them."""

import pytest

from many.single_fits import WITHIN, assert_equal, data, single
from torchplug import fit_many, use

PARTS = """
import torch
from torch import nn


class Cooling(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.map, self.heat = nn.Linear(inputs, outputs), 1.0

    def anneal(self, passed):
        self.heat = 1.0 - 0.5 * passed

    def forward(self, features):
        scores = self.map(features).sinh()
        return self.heat * scores if self.training else scores


class Chain(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)

    def anneal(self, passed):
        self.told = passed

    def linear_scores(self):
        return self.weight, self.bias
"""


@pytest.fixture(autouse=True)
def parts(torchplug_distributions):
    """Models whose networks are annealed."""
    torchplug_distributions.module("cooling_parts", PARTS)
    models = [("models", name.lower(), f"cooling_parts:{name}") for name in ("Cooling", "Chain")]
    torchplug_distributions.offer("cooling", *models)


def configurations(model):
    return [{"model": model, "optimizer": use("adam", lr=rate), "seed": 1} for rate in (0.01, 0.03)]


@pytest.mark.parametrize("precision", WITHIN)
def test_a_program_anneals_its_networks(tmp_path, precision):
    settings = {"max_epochs": 4, "precision": precision}
    results = fit_many(configurations("cooling"), data(), trainer=settings)
    for config, result in zip(configurations("cooling"), results, strict=True):
        module, run = single(tmp_path, config, data(), **settings)
        assert module.network.heat == 0.625
        assert_equal(result, module, run, WITHIN[precision])


def test_a_chain_that_is_annealed_is_trained_by_itself(tmp_path):
    (result, _) = fit_many(configurations("chain"), data(), trainer={"max_epochs": 4})
    assert result.module.network.told == 0.75
