"""State of plugins' optimizers and schedulers that no checkpoint could be loaded with."""

import lightning
import numpy as np
import pytest
import torch

import torchplug
from torchplug import TabularData, use
from torchplug.errors import PluginTrainingError

PARTS = """
import collections
import fractions

import torch


class Remembers(torch.optim.SGD):
    def __init__(self, params, lr: float = 0.01):
        super().__init__(params, lr=lr)

    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p]["memory"] = self.remembered()
        return loss


class Fractions(Remembers):
    def remembered(self):
        return fractions.Fraction(1, 3)


class Functions(Remembers):
    def remembered(self):
        return lambda: 0


class Plain(Remembers):
    def remembered(self):
        return {"history": [torch.ones(3), (1, 2.0, "three", None)], "counts": collections.OrderedDict(a=1)}


class Schedule(torch.optim.lr_scheduler.StepLR):
    def __init__(self, optimizer):
        super().__init__(optimizer, 2)
        self.ratio = fractions.Fraction(1, 3)
"""


@pytest.fixture(autouse=True)
def acme(distributions):
    distributions.module("acme_parts", PARTS)
    optimizers = [("optimizers", name.lower(), f"acme_parts:{name}") for name in ("Fractions", "Functions", "Plain")]
    distributions.offer("acme", *optimizers, ("schedulers", "schedule", "acme_parts:Schedule"), version="3.1")


def fit(tmp_path, **config):
    options = {"trainer": {"max_epochs": 2, "accelerator": "cpu"}, "tracking": {"mode": "disabled"}}
    return torchplug.fit({"model": "linear", **config}, TabularData("diabetes", "target"), root=tmp_path, **options)


@pytest.mark.parametrize(
    ("config", "component", "offender"),
    [
        ({"optimizer": "fractions"}, "acme:fractions (optimizer)", "fractions.Fraction"),
        ({"optimizer": "functions"}, "acme:functions (optimizer)", "lambda"),
        ({"scheduler": "schedule"}, "acme:schedule (scheduler)", "fractions.Fraction"),
    ],
)
def test_it_is_refused_at_the_first_save(tmp_path, config, component, offender):
    with pytest.raises(PluginTrainingError) as caught:
        fit(tmp_path, **config)
    message = str(caught.value)
    assert message.startswith(f"acme 3.1: {component}: its state_dict has values other than tensors")
    assert offender in message
    assert "\n" not in message
    assert list(tmp_path.rglob("*.ckpt")) == []


class Numpy(lightning.Callback):
    """Sets NumPy's numbers in the second epoch."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = np.float64(0.25) * group["lr"]
                group["betas"] = tuple(np.array(group["betas"]))

    def state_dict(self):
        return {"seen": [np.int64(3)]}


def test_numbers_of_numpy_are_saved_as_pythons(tmp_path):
    trainer = {"max_epochs": 2, "accelerator": "cpu", "callbacks": [Numpy()]}
    config = {"model": "linear", "optimizer": use("adam", lr=0.1)}
    data = TabularData("diabetes", "target")
    run = torchplug.fit(config, data, trainer=trainer, tracking={"mode": "disabled"}, root=tmp_path).run
    content = torch.load(run.last, weights_only=True)
    (group,) = content["optimizer_states"][0]["param_groups"]
    assert (group["lr"], group["betas"]) == (0.025, (0.9, 0.999))
    assert {type(number) for number in (group["lr"], *group["betas"])} == {float}
    assert {"seen": [3]} in content["callbacks"].values()


def test_plain_state_is_saved(tmp_path):
    assert fit(tmp_path, optimizer="plain").run.last.is_file()
