"""Losses of torch.nn as torchplug's: torch's values, one per sample."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from zoo_fits import Fit

from torchplug import Family, use
from torchplug.registry import registry
from torchplug_zoo.catalogue import components
from torchplug_zoo.kinds import KINDS
from torchplug_zoo.libraries import in_words
from torchplug_zoo.losses import Elementwise

NAMES = {f"torch_{in_words(original)}": original for original in KINDS}


def test_every_kind_is_registered():
    assert {component.name for component in components(Family.LOSS)} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_torchs_of_each_sample(name):
    kind = KINDS[NAMES[name]]
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(6, 3 if kind == "multiclass" else 1, generator=generator)
    target = torch.rand(6, 1, generator=generator)
    target = {
        "multiclass": torch.arange(6) % 3,
        "binary": target.round(),
        "margin": target.round(),
        "count": (5 * target).floor(),
        "regression": target,
    }[kind]
    loss = registry().resolve(Family.LOSS, f"torchplug-zoo:{name}").build()
    assert loss.kind == kind
    assert loss.smooth is (name != "torch_l1_loss")
    its = getattr(nn, NAMES[name])(reduction="none")
    own = 2 * target - 1 if kind == "margin" else target
    expected = torch.stack([its(scores[i : i + 1], own[i : i + 1]).sum() for i in range(6)])
    torch.testing.assert_close(loss(scores, target), expected)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        torch.testing.assert_close(twin(scores, target), expected)


def test_columns_are_added():
    loss = Elementwise(nn.MSELoss(reduction="none"), "regression")
    assert loss(torch.ones(2, 3), torch.zeros(2, 3)).tolist() == [3.0, 3.0]


def test_a_loss_that_reduces_is_refused():
    with pytest.raises(ValueError, match="MSELoss must have reduction=\"none\", and has 'mean'"):
        Elementwise(nn.MSELoss(), "regression")


def test_parameters_are_torchs(tmp_path):
    names = [*registry().parameters(registry().find(Family.LOSS, "torch_huber_loss"))]
    assert names == ["delta"]
    assert [*registry().parameters(registry().find(Family.LOSS, "torch_cross_entropy_loss"))] == ["label_smoothing"]
    Fit(tmp_path, use("sgd", lr=0.05), "linear", loss=use("torch_huber_loss", delta=2.0))()
