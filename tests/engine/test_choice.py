"""Which engine is chosen, and why another cannot be had."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from compared_fits import DROPPED, NORMALIZED, Fit, quiet, rows
from engine_steps import Squared, Told, objective_of, stored
from torchplug import ComponentModule, Loss, use
from torchplug.engine import ENGINES, choose
from torchplug.errors import ConfigurationError
from torchplug.training import FullBatch


def precision(name="32-true"):
    return SimpleNamespace(precision=name, forward_context=nullcontext)


def chosen(asked, net, *, loss=None, flat=True, name="32-true"):
    objective = objective_of(net, loss=loss)
    storage = stored(objective) if flat else None
    return choose(asked, objective, Told(objective.loss), storage, precision(name)).name


CHAIN = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 1))


class Underived(Loss):
    """A loss with nothing but values."""

    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


class Learning(Squared):
    """A loss with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("name", ["32-true", "64-true"])
@pytest.mark.parametrize("net", [CHAIN, nn.Linear(3, 1), nn.Sequential(nn.Linear(3, 1), nn.Identity())])
def test_chains_are_done_by_hand(net, name):
    assert chosen("auto", net, name=name) == "analytic"
    assert chosen("analytic", net, name=name) == "analytic"
    assert chosen("autograd", net, name=name) == "autograd"


OBSTACLES = {
    "no-chain": ({"net": nn.Sequential(nn.Linear(3, 2), nn.ELU(), nn.Linear(2, 1))}, "is no chain of linear maps"),
    "batch-norm": ({"net": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))}, "is no chain of linear maps"),
    "shared": ({"net": nn.Sequential(*[nn.Linear(3, 3)] * 2)}, "is no chain of linear maps"),
    "dropout": ({"net": nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))}, "drops units at random"),
    "bf16": ({"net": CHAIN, "name": "bf16-mixed"}, "precision bf16-mixed rounds within the network"),
    "16": ({"net": CHAIN, "name": "16-mixed"}, "precision 16-mixed rounds within the network"),
    "underived": ({"net": CHAIN, "loss": Underived()}, "the loss Underived has no derivative written out"),
    "learning": ({"net": CHAIN, "loss": Learning()}, "the loss Learning has parameters of its own"),
    "elsewhere": ({"net": CHAIN, "flat": False}, "the parameters have no flat storage"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_what_stands_in_the_way_is_named(name):
    settings, reason = OBSTACLES[name]
    assert chosen("auto", **settings) == "autograd"
    assert chosen("autograd", **settings) == "autograd"
    with pytest.raises(ConfigurationError, match=f"^engine analytic: .*{reason}.*; leave the engine at auto"):
        chosen("analytic", **settings)


def test_a_replaced_forward_may_compute_anything():
    net = nn.Linear(3, 1)
    net.forward = lambda features: features[:, :1] * net.weight[0, 0]
    assert chosen("auto", net) == "autograd"


@pytest.mark.parametrize("engine", ["fast", "", None, "Chain"])
def test_an_engine_that_does_not_exist_is_refused(engine):
    with pytest.raises(ConfigurationError, match=f"engine is one of {', '.join(ENGINES)}, not {engine!r}"):
        ComponentModule("linear", engine=engine)


@pytest.mark.parametrize("steps", [0, -1, 2.5, "many", None, True])
def test_a_number_of_steps_that_is_none_is_refused(steps):
    with pytest.raises(ConfigurationError, match="steps_per_execution is a whole number of at least 1, or auto"):
        ComponentModule("linear", steps_per_execution=steps)


@pytest.mark.parametrize("settings", [{"engine": "analytic"}, {"engine": "autograd"}, {"steps_per_execution": 4}])
def test_an_optimizer_that_sees_the_whole_set_takes_neither(settings):
    with pytest.raises(ConfigurationError, match="newton makes one step per epoch"):
        ComponentModule("linear", optimizer="newton", **settings)


def test_one_step_per_call_is_what_such_an_optimizer_makes():
    module = ComponentModule("linear", optimizer="newton", steps_per_execution=1)
    assert isinstance(module.execution, FullBatch)


FITS = [
    ({}, "analytic"),
    ({"model": "linear", "loss": "bce", "data": lambda: rows("two")}, "analytic"),
    ({"optimizer": "adamw"}, "analytic"),
    ({"regularizers": [use("l1", proximal=True)]}, "analytic"),
    ({"precision": "64-true"}, "analytic"),
    ({"accumulate_grad_batches": 2}, "analytic"),
    ({"precision": "bf16-mixed"}, "autograd"),
    ({"model": DROPPED}, "autograd"),
    ({"model": NORMALIZED}, "autograd"),
]


@pytest.mark.parametrize(("settings", "name"), FITS)
def test_a_fit_chooses(tmp_path, settings, name):
    with quiet():
        fit = Fit(tmp_path, max_epochs=1, **settings)()
    assert fit.module.execution.fit.stepper.engine.name == name


@pytest.mark.parametrize("settings", [{"model": DROPPED}, {"precision": "bf16-mixed"}])
def test_a_fit_that_cannot_be_done_by_hand_is_refused(tmp_path, settings):
    with quiet(), pytest.raises(ConfigurationError, match=r"^engine analytic: "):
        Fit(tmp_path, engine="analytic", **settings)()
