"""Exceptions of plugins' code become one line that names distribution, version and component."""

import pytest

import torchplug
from torchplug import TabularData
from torchplug.errors import PluginError, TrainingError

PARTS = """
import torch
import torchmetrics
from torch import nn
from torchplug import Loss, Regularizer


def fail():
    raise KeyError("missing")


class Constructor(nn.Module):
    def __init__(self, inputs, outputs):
        raise RuntimeError("no\\nluck")


class Uninitialized(Loss):
    kind = "regression"

    def __init__(self):
        self.delta = 1.0

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


class Affine(nn.Linear):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)


class Network(Affine):
    def forward(self, features):
        fail()


class TrainingNetwork(Affine):
    def forward(self, features):
        return fail() if self.training else super().forward(features)


class Inner(nn.Module):
    def forward(self, features):
        raise RuntimeError("inner")


class Outer(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.inner = Inner()

    def forward(self, features):
        return self.inner(features)


class Penalty(Regularizer):
    def forward(self, parameters):
        fail()


class Step(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr)

    def step(self, closure=None):
        super().step(closure)
        fail()


class Switch(Step):
    step = torch.optim.SGD.step

    def train(self):
        pass

    def eval(self):
        self.state["missing"]["ema"]


def factory(params, lr: float = 0.1):
    return Step(params, lr)


class Schedule(torch.optim.lr_scheduler.LRScheduler):
    def get_lr(self):
        return fail() if self.last_epoch else self.base_lrs


class Refused(torch.optim.SGD):
    def __init__(self, params):
        raise ImportError("einops")


class Mean(torchmetrics.MeanMetric):
    def update(self, predictions, target):
        fail()
"""
PLUGIN = """
from torchplug import Component, Metric, hookimpl


def offer(*names):
    return [Component(name.lower(), f"acme_parts:{name}", "faulty") for name in names]


@hookimpl
def torchplug_models():
    return offer("Constructor", "Network", "TrainingNetwork", "Outer")


@hookimpl
def torchplug_losses():
    return offer("Uninitialized")


@hookimpl
def torchplug_regularizers():
    return offer("Penalty")


@hookimpl
def torchplug_optimizers():
    return offer("Step", "Switch", "factory", "Refused")


@hookimpl
def torchplug_schedulers():
    return offer("Schedule")


@hookimpl
def torchplug_metrics():
    every = frozenset({"regression"})
    return [Metric("mean", "acme_parts:Mean", "faulty", kinds=every, view="values", direction="min")]
"""
ONE, QUIET = {"max_epochs": 1}, {"mode": "disabled"}
FAULTS = {
    "model constructor": (2, "constructor (model) failed in __init__", "RuntimeError: no luck"),
    "model network": (2, "network (model) failed in forward", "KeyError: 'missing'"),
    "model outer": (2, "outer (model) failed in forward", "RuntimeError: inner"),
    "model trainingnetwork": (3, "trainingnetwork (model) failed in forward", "KeyError: 'missing'"),
    "loss uninitialized": (2, "uninitialized (loss): its constructor does not call super().__init__()", ""),
    "regularizers+ penalty": (3, "penalty (regularizer) failed in forward", "KeyError: 'missing'"),
    "optimizer refused": (2, "refused (optimizer) failed in __init__", "ImportError: einops"),
    "optimizer step": (3, "step (optimizer) failed in step", "KeyError: 'missing'"),
    "optimizer factory": (3, "factory (optimizer) failed in step", "KeyError: 'missing'"),
    "optimizer switch": (3, "switch (optimizer) failed in eval", "KeyError: 'ema'"),
    "scheduler schedule": (3, "schedule (scheduler) failed in get_lr", "KeyError: 'missing'"),
    "metrics+ mean": (3, "mean (metric) failed in update", "KeyError: 'missing'"),
}


@pytest.fixture(autouse=True)
def acme(distributions):
    distributions.module("acme_parts", PARTS)
    distributions.add("acme", PLUGIN, version="2.5")


@pytest.mark.parametrize("fault", FAULTS)
def test_the_command_line_names_the_component(run, fault):
    slot, name = fault.split()
    status, place, reason = FAULTS[fault]
    ended, _, errors = run(["fit", "--trainer.max_epochs", "2", f"--model.{slot}={name}"])
    assert ended == status, errors
    assert "Traceback" not in errors
    assert errors.count("\n") == 1
    assert f"acme 2.5{' is broken' if not reason else ''}: acme:{place}" in errors
    assert reason in errors


def test_a_variable_shows_the_traceback(run, monkeypatch):
    line = ["fit", "--model.optimizer=step"]
    assert "acme_parts.py:" in (errors := run(line)[2])
    assert "TORCHPLUG_TRACEBACKS=1 shows the traceback" in errors
    monkeypatch.setenv("TORCHPLUG_TRACEBACKS", "1")
    status, _, errors = run(line)
    assert status == 3
    assert 'raise KeyError("missing")' in errors
    assert errors.splitlines()[-1].startswith("linear_regression.py: error: acme 2.5: acme:step (optimizer) failed")


def test_a_fit_from_python_raises_and_keeps_the_cause(tmp_path):
    config = {"model": "linear", "optimizer": "step"}
    with pytest.raises(PluginError, match=r"^acme 2.5: acme:step \(optimizer\) failed in step") as caught:
        torchplug.fit(config, TabularData("diabetes", "target"), trainer=ONE, tracking=QUIET, root=tmp_path)
    assert isinstance(caught.value, TrainingError)
    assert isinstance(caught.value.__cause__, KeyError)


def test_failures_of_the_library_keep_their_traceback(run, monkeypatch):
    from torchplug.components.builtin.losses import MSE

    monkeypatch.setattr(MSE, "check", lambda *arguments: {}["defect"])
    with pytest.raises(KeyError, match="defect"):
        run(["fit"])
