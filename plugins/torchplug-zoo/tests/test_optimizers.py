"""Every optimizer of the installed libraries: trains, resumes bit for bit, and equals a plain torch loop."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from expected_failures import NOT_RESUMED
from expected_failures import OPTIMIZERS as EXPECTED
from torch import nn
from zoo_fits import BATCH, EPOCHS, ROWS, Fit, plain_loop

from compared_fits import differences
from torchplug import Capability, Family, use
from torchplug.registry import registry
from torchplug_zoo.catalogue import components

pytestmark = pytest.mark.filterwarnings("ignore")  # the libraries' own, and Lightning's on small fits

RECORDS = {component.name: component for component in components(Family.OPTIMIZER)}
TRAINING = sorted(set(RECORDS) - set(EXPECTED))
STEPS = EPOCHS * (ROWS * 6 // 10) // BATCH

SETTINGS = {
    "timm_lars": {"lr": 1e-3},
    "timm_sgdp": {"lr": 1e-2},
    "torch_lbfgs": {"max_iter": 3, "lr": 0.1},
}
"""Settings other than the defaults."""

MATRICES = ("torch_muon", "po_spectralsphere")
"""Those that move matrices only."""

BY_MUON = ("po_adago", "po_adamuon", "po_muon", "po_muonclip", "po_normuon")
DECIDING = ("po_emofact", "po_emolynx", "po_emonavi", "torch_lbfgs")
"""Those that amplify the last bit of a loss, as by thresholds: tried with autograd, which rounds as torch does."""


def models(name: str) -> list[str]:
    return ["matrix"] if name in MATRICES else ["linear", "mlp"]


def own_class(name: str) -> Any:
    """The library's class, found without the zoo's adaptations."""
    if name in ADAPTED:
        import pytorch_optimizer

        return getattr(pytorch_optimizer, ADAPTED[name])
    return registry().target(registry().find(Family.OPTIMIZER, f"torchplug-zoo:{name}"))


ADAPTED = {
    "po_adammini": "AdamMini",
    "po_ranger21": "Ranger21",
    "po_scion": "SCION",
    "po_scionlight": "SCIONLight",
    "po_spectralsphere": "SpectralSphere",
}


def built(name: str, network: nn.Module, named: list[tuple[str, nn.Parameter]]) -> Any:
    """The optimizer as a user of the library builds it: weight decay kept off biases, where there is any."""
    kind = functools.partial(own_class(name), **SETTINGS.get(name, {}))
    weights, biases = ([p for _, p in named if (p.ndim >= 2) is large] for large in (True, False))
    if name == "po_adammini":
        return kind(network)
    if name in BY_MUON:
        return kind([{"params": weights, "use_muon": True}, {"params": biases, "use_muon": False}])
    if name == "po_ranger21":
        kind = functools.partial(kind, num_iterations=STEPS)
    decays = kind([nn.Parameter(torch.zeros(2, 3))]).defaults.get("weight_decay")
    if not decays or not biases:
        return kind(weights + biases if decays else [p for _, p in named])
    return kind([{"params": weights}, {"params": biases, "weight_decay": 0.0}])


def fitted(folder: Any, name: str, model: str, **options: Any) -> Fit:
    engine = "autograd" if name in DECIDING else "auto"
    return Fit(folder, use(f"torchplug-zoo:{name}", **SETTINGS.get(name, {})), model, engine=engine, **options)()


@pytest.mark.parametrize("name", TRAINING)
def test_it_equals_a_plain_torch_loop_and_resumes_bit_for_bit(tmp_path, name):
    within = 1e-3 if name == "torch_lbfgs" else 1e-5  # differences of gradients amplify rounding
    graph = Capability.GRAPH in RECORDS[name].capabilities
    for model in models(name):
        whole = fitted(tmp_path / model, name, model)
        start = dict(whole.start.named_parameters())
        expected = plain_loop(whole.start, whole.data.frame_of("train"), functools.partial(built, name), graph)
        for key, parameter in whole.parameters.items():
            torch.testing.assert_close(parameter, expected[key], rtol=within, atol=within / 10)
        assert any(not torch.equal(parameter, start[key]) for key, parameter in whole.parameters.items()) or (
            (name, model) == ("po_lorarite", "linear")  # pairs of matrices are what it moves
        )
    rest = fitted(tmp_path / "rest", name, model, resume=whole.checkpoint(0))
    same = all(torch.equal(parameter, rest.parameters[key]) for key, parameter in whole.parameters.items())
    assert same is (name not in NOT_RESUMED)
    if same:
        assert not differences(whole.state(), rest.state())


@pytest.mark.parametrize("name", sorted(set(EXPECTED) & set(RECORDS)))
def test_what_does_not_train_says_why(tmp_path, name):
    message, reason = EXPECTED[name]
    assert reason
    with pytest.raises(Exception, match=message):
        fitted(tmp_path, name, "mlp")
