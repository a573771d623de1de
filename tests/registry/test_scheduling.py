"""Schedulers of plugins: when they advance, what they monitor, and those that cannot be resumed."""

import pytest
import torch

from compared_fits import Recorder
from small_fits import regression, trainer
from torchplug import ComponentModule, Family, use
from torchplug.errors import PluginError
from torchplug.registry import registry

PLUGIN = """
from torchplug import Component, hookimpl

TORCH = "torch.optim.lr_scheduler"


@hookimpl
def torchplug_schedulers():
    return [
        Component("cycle", f"{TORCH}:OneCycleLR", "counts steps, by its signature"),
        Component("reduce", f"{TORCH}:ReduceLROnPlateau", "monitors val/loss"),
        Component("reduce_train", f"{TORCH}:ReduceLROnPlateau", "by its record", monitor="train/epoch_loss"),
        Component("decay", f"{TORCH}:ExponentialLR", "counts epochs"),
        Component("decay_steps", f"{TORCH}:ExponentialLR", "counts steps, by its record", interval="step"),
        Component("stateless", "acme_parts:Stateless", "no state_dict"),
        Component("stranger", "acme_parts:Stranger", "none of torch's"),
    ]
"""
PARTS = """
class Stateless:
    def __init__(self, optimizer):
        self.optimizer = optimizer

    def step(self):
        pass


class Stranger(Stateless):
    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass
"""


@pytest.fixture(autouse=True)
def acme(distributions):
    distributions.module("acme_parts", PARTS)
    distributions.add("acme", PLUGIN)


def fitted(tmp_path, scheduler, epochs=3, logger=False):
    module = ComponentModule("linear", "mse", use("sgd", lr=0.01), (), scheduler)
    run = trainer(tmp_path, max_epochs=epochs, logger=logger)
    run.fit(module, regression())
    return run


def test_total_steps_implies_steps(tmp_path):
    logger = Recorder()
    run = fitted(tmp_path, use("cycle", max_lr=0.1), logger=logger)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    expected = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=run.global_step)
    rates = []
    for _ in range(run.global_step):
        rates += expected.get_last_lr()
        optimizer.step()
        expected.step()
    assert [row["lr-SGD"] for _, row in logger.rows if "lr-SGD" in row] == pytest.approx(rates)
    assert rates[-1] < 1e-5  # it ends with the lowest rate


def test_the_record_says_when_it_advances(tmp_path):
    per_epoch, per_step = (fitted(tmp_path, use(name, gamma=0.9)) for name in ("decay", "decay_steps"))
    assert per_epoch.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.9**3)
    assert per_step.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.9**per_step.global_step)


@pytest.mark.parametrize(("name", "monitor"), [("reduce", "val/loss"), ("reduce_train", "train/epoch_loss")])
def test_torchs_plateau_works_by_name(tmp_path, name, monitor):
    run = fitted(tmp_path, use(name, patience=0, threshold=0.99, factor=0.5), epochs=4)
    (config,) = run.lr_scheduler_configs
    assert config.monitor == monitor
    assert config.scheduler.best < float("inf")
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.01 * 0.5 ** (4 - 1))


def test_one_within_warmup_counts_steps_too():
    resolved = registry().resolve(Family.SCHEDULER, use("warmup", after=use("cycle", max_lr=0.1)))
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    built = resolved.build(optimizer, total_steps=100, steps_per_epoch=10)
    assert built.after.interval == "step"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("stateless", "gives a Stateless, which has no state_dict and load_state_dict to resume it"),
        ("stranger", r"gives a Stranger, which is no torch.optim.lr_scheduler.LRScheduler"),
    ],
)
def test_what_cannot_be_resumed_is_refused(name, reason):
    with pytest.raises(PluginError, match=rf"^scheduler acme:{name} {reason}$"):
        ComponentModule("linear", "mse", "sgd", (), name)
