"""A run is resumed through `torchplug.fit`, which checks a checkpoint before it loads it."""

from __future__ import annotations

import pytest
import torch
from zoo_fits import MODELS, table

import torchplug
from torchplug import use
from torchplug_zoo.catalogue import components

NAMES = {component.name for component in components(torchplug.Family.OPTIMIZER)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("groups", [None, {"bias": {"lr": 0.5}}])
@pytest.mark.parametrize("name", sorted(NAMES & {"po_muon", "schedulefree_adamw", "torch_adamw"}))
def test_a_resumed_run_ends_with_equal_bits(tmp_path, name, groups):
    def fitted(epochs, ckpt_path=None):
        config = {"model": MODELS["mlp"], "optimizer": use(f"torchplug-zoo:{name}"), "groups": groups}
        trainer = {"max_epochs": epochs, "accelerator": "cpu"}
        return torchplug.fit(
            config, table(), trainer=trainer, tracking={"mode": "disabled"}, root=tmp_path, ckpt_path=ckpt_path
        )

    whole, half = fitted(2), fitted(1)
    rest = fitted(2, half.run.last)
    for key, value in whole.module.network.state_dict().items():
        assert torch.equal(value, rest.module.network.state_dict()[key])
