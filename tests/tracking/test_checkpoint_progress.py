"""What may be gone on from: every registered optimizer and scheduler as it saves itself, and nothing emptied."""

from pathlib import Path

import pytest
import torch

from own_components import own_components
from torchplug.errors import CheckpointError
from torchplug.registry.component import Capability, Family
from torchplug.resolved_config import ResolvedConfig
from torchplug.tracking.checkpoint_entries import Entries
from torchplug.tracking.checkpoint_progress import check_optimizer

FILE = Path("some.ckpt")
REQUIRED = {"manual": {"table": {0: 0.1, 2: 0.01}}, "warmup": {"after": "cosine"}}


def _resolved(optimizer, scheduler=None):
    return ResolvedConfig.of("linear", "mse", optimizer, [], scheduler)


def _saved(resolved, steps=3):
    """What a checkpoint holds of optimizer and scheduler after some steps on parameters of several shapes."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
    optimizer = resolved.optimizer.build(resolved._named_if_needed(list(network.named_parameters())))
    scheduler = resolved.build_scheduler(optimizer, total_steps=10, steps_per_epoch=2)
    for _ in range(steps):
        network(torch.ones(5, 3)).square().mean().backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step(*([0.5] if hasattr(scheduler, "monitor") else []))
    return {
        "global_step": steps,
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [] if scheduler is None else [scheduler.state_dict()],
    }


def _minibatch_optimizers():
    entries = own_components(Family.OPTIMIZER)
    return [entry.qualified_name for entry in entries if Capability.OBJECTIVE not in entry.component.capabilities]


@pytest.mark.parametrize("name", _minibatch_optimizers())
def test_an_optimizer_as_it_saves_itself_is_accepted_and_an_emptied_one_is_not(name):
    resolved = _resolved(name)
    content = _saved(resolved)
    check_optimizer(Entries(content, FILE), resolved)
    (state,) = content["optimizer_states"]
    if state["state"]:
        emptied = {**content, "optimizer_states": [{**state, "state": {}}]}
        with pytest.raises(CheckpointError, match=r"some\.ckpt is malformed: optimizer_states\.state is empty"):
            check_optimizer(Entries(emptied, FILE), resolved)
        check_optimizer(Entries({**emptied, "global_step": 0}, FILE), resolved)


@pytest.mark.parametrize("name", [entry.qualified_name for entry in own_components(Family.SCHEDULER)])
def test_a_scheduler_as_it_saves_itself_is_accepted_and_an_emptied_one_is_not(name):
    scheduler = {"name": name, "parameters": REQUIRED.get(name.rpartition(":")[2], {})}
    resolved = _resolved("nesterov", scheduler)
    content = _saved(resolved)
    check_optimizer(Entries(content, FILE), resolved)
    for states in ([], [{}], [{**content["lr_schedulers"][0], "last_epoch": "one"}]):
        with pytest.raises(CheckpointError, match=r"some\.ckpt is malformed: lr_schedulers"):
            check_optimizer(Entries({**content, "lr_schedulers": states}, FILE), resolved)


def test_a_scheduler_of_another_version_of_torch_is_accepted():
    resolved = _resolved("sgd", "cosine")
    content = _saved(resolved)
    for name in set(content["lr_schedulers"][0]) - {"last_epoch"}:
        (state,) = content["lr_schedulers"]
        fewer = {key: value for key, value in state.items() if key != name}
        check_optimizer(Entries({**content, "lr_schedulers": [fewer]}, FILE), resolved)


def test_nan_and_infinite_tensors_are_refused_and_infinite_bounds_are_not():
    resolved = _resolved("adam", "plateau")
    content = _saved(resolved)
    content["lr_schedulers"][0]["best"] = float("inf")
    check_optimizer(Entries(content, FILE), resolved)
    for value in (float("nan"), float("inf")):
        broken = _saved(resolved)
        broken["optimizer_states"][0]["state"][0]["exp_avg"][0, 0] = value
        with pytest.raises(CheckpointError, match="optimizer_states holds NaN or infinite values"):
            check_optimizer(Entries(broken, FILE), resolved)
