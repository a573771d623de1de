"""Every scheduler of the installed libraries: the rates of the library's own class, and state that can be resumed."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from expected_failures import SCHEDULERS as EXPECTED
from torch import nn
from zoo_fits import Fit

from torchplug import Family, use
from torchplug.checkpoint_record import plain_numbers
from torchplug.errors import TorchplugError
from torchplug.registry import registry
from torchplug_zoo.catalogue import components

pytestmark = pytest.mark.filterwarnings("ignore")

RECORDS = {component.name: component for component in components(Family.SCHEDULER)}
TRAINING = sorted(set(RECORDS) - set(EXPECTED))
TOTAL, PER_EPOCH = 24, 12

SETTINGS: dict[str, dict[str, Any]] = {
    "po_chebyshev": {"num_epochs": 8},
    "po_cosine": {"t_max": 20, "max_lr": 0.1},
    "po_cosine_annealing_warmup_restarts": {"first_cycle_steps": 10, "warmup_steps": 2, "max_lr": 0.1},
    "po_linear": {"t_max": 20, "max_lr": 0.1},
    "po_rex": {"max_lr": 0.1},
    "po_wsd": {"num_warmup_steps": 3, "num_stable_steps": 5, "num_decay_steps": 8},
    "torch_cosine_annealing_lr": {"T_max": 9},
    "torch_cosine_annealing_warm_restarts": {"T_0": 5},
    "torch_cyclic_lr": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4},
    "torch_exponential_lr": {"gamma": 0.9},
    "torch_multi_step_lr": {"milestones": [3, 7]},
    "torch_one_cycle_lr": {"max_lr": 0.1},
    "torch_step_lr": {"step_size": 4},
}
BY_STEP = {"po_cosine_annealing_warmup_restarts", "po_rex", "po_wsd", "torch_cyclic_lr", "torch_one_cycle_lr"}


def sgd() -> torch.optim.Optimizer:
    groups = [{"params": [nn.Parameter(torch.zeros(2))], "lr": lr} for lr in (0.1, 0.05)]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


def resolved(name: str) -> Any:
    spec = use(f"torchplug-zoo:{name}", **SETTINGS.get(name, {}))
    return registry().resolve(Family.SCHEDULER, spec)


def rates(optimizer: torch.optim.Optimizer, scheduler: Any, count: int) -> list[list[float]]:
    found = []
    for number in range(count):
        optimizer.step()
        found.append([float(group["lr"]) for group in optimizer.param_groups])
        scheduler.step(*([1.0 / (1 + number % 3)] if hasattr(scheduler, "patience") else []))
    return found


@pytest.mark.parametrize("name", TRAINING)
def test_its_rates_are_those_of_the_librarys_class_and_go_on_from_a_saved_state(name):
    first, second, third = sgd(), sgd(), sgd()
    ours = resolved(name).build(first, total_steps=TOTAL, steps_per_epoch=PER_EPOCH)
    asks = {"total_steps": TOTAL} if name in ("po_rex", "torch_one_cycle_lr") else {}
    its = registry().target(resolved(name).entry)(second, **SETTINGS.get(name, {}), **asks)
    expected = rates(second, its, TOTAL)
    assert rates(first, ours, 10) == expected[:10]
    assert ours.interval == ("step" if name in BY_STEP else "epoch")
    kept = io.BytesIO()
    torch.save(plain_numbers((ours.state_dict(), first.state_dict())), kept)  # as a fit does
    kept.seek(0)
    again = resolved(name).build(third, total_steps=TOTAL, steps_per_epoch=PER_EPOCH)
    schedule, optimizer = torch.load(kept, weights_only=True)
    third.load_state_dict(optimizer)
    again.load_state_dict(schedule)
    assert rates(third, again, 3)[1:] == rates(first, ours, 3)[1:]


@pytest.mark.parametrize("name", ["torch_one_cycle_lr", "torch_multi_step_lr", "torch_reduce_lr_on_plateau"])
def test_a_fit_has_it(tmp_path, name):
    fit = Fit(tmp_path, use("sgd", lr=0.05), "linear", scheduler=use(name, **SETTINGS.get(name, {})))()
    (config,) = fit.trainer.lr_scheduler_configs
    assert type(config.scheduler) is registry().target(resolved(name).entry)
    assert config.interval == ("step" if name in BY_STEP else "epoch")
    if name == "torch_one_cycle_lr":
        assert config.scheduler.last_epoch == config.scheduler.total_steps == TOTAL


@pytest.mark.parametrize("name", sorted(set(EXPECTED) & set(RECORDS)))
def test_what_does_not_train_says_why(tmp_path, name):
    message, reason = EXPECTED[name]
    assert reason
    with pytest.raises(TorchplugError, match=message):
        Fit(tmp_path, use("sgd", lr=0.05), "linear", scheduler=use(name, **SETTINGS.get(name, {})))()
