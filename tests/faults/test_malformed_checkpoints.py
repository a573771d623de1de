"""Checkpoint files whose content is not what a recipe saved: one line, whatever is wrong with them."""

import copy
import math
import random

import pytest
import torch

from fault_tries import EVERYTHING, selected, tries
from recipe_processes import run_directories

COMMANDS = {
    "fit": ["fit", "--trainer.max_epochs", "3"],
    "validate": ["validate"],
    "test": ["test"],
    "predict": ["predict", "--output", "table.csv"],
}
ABSENT = object()
EVERY = selected(("fit", "predict", "test", "validate"), 2)
FIT = ("fit",)
WEIGHT = ("state_dict", "network.map.weight")
STEPS = ("loops", "fit_loop", "epoch_loop.automatic_optimization.optim_progress", "optimizer", "step")
FORMS = {
    "hyper_parameters a list": (("hyper_parameters",), [], EVERY),
    "hyper_parameters text": (("hyper_parameters",), "model", EVERY),
    "no hyper_parameters": (("hyper_parameters",), ABSENT, EVERY),
    "a class path for a model": (("hyper_parameters", "model"), {"class_path": "os.system"}, EVERY),
    "an instantiator": (("hyper_parameters", "_instantiator"), "os.system", EVERY),
    "a learning rate of text": (("hyper_parameters", "optimizer", "parameters", "lr"), "fast", EVERY),
    "no loss": (("hyper_parameters", "loss"), None, EVERY),
    "regularizers a mapping": (("hyper_parameters", "regularizers"), {}, EVERY),
    "data settings a list": (("datamodule_hyper_parameters",), [1], EVERY),
    "no record": (("torchplug",), ABSENT, EVERY),
    "an empty record": (("torchplug",), {}, EVERY),
    "no preprocessing": (("torchplug", "preprocessing"), ABSENT, EVERY),
    "preprocessing a list": (("torchplug", "preprocessing"), [1], EVERY),
    "another number of outputs": (("torchplug", "outputs"), 7, EVERY),
    "a scale of NaN": (("torchplug", "preprocessing", "scaling", "scale"), torch.full((10,), math.nan).double(), EVERY),
    "columns without names": (("torchplug", "preprocessing", "columns", 0, "name"), [1], EVERY),
    "state_dict a list": (("state_dict",), [1], EVERY),
    "no state_dict": (("state_dict",), ABSENT, EVERY),
    "state_dict empty": (("state_dict",), {}, EVERY),
    "weights of text": (WEIGHT, "heavy", EVERY),
    "weights of another shape": (WEIGHT, torch.ones(2, 2), EVERY),
    "weights of NaN": (WEIGHT, torch.full((1, 10), math.nan), EVERY),
    "infinite weights": (WEIGHT, torch.full((1, 10), -math.inf), EVERY),
    "loops a list": (("loops",), [1], FIT),
    "no loops": (("loops",), ABSENT, FIT),
    "no epochs": (("loops", "fit_loop", "epoch_progress"), ABSENT, FIT),
    "no current epoch": (("loops", "fit_loop", "epoch_progress", "current"), {}, FIT),
    "a count of text": ((*STEPS, "total", "completed"), "3", FIT),
    "a negative count": ((*STEPS, "total", "completed"), -3, FIT),
    "epoch of text": (("epoch",), "one", FIT),
    "no epoch": (("epoch",), ABSENT, FIT),
    "a negative step": (("global_step",), -1, FIT),
    "no optimizer states": (("optimizer_states",), ABSENT, FIT),
    "optimizer states empty": (("optimizer_states",), [], FIT),
    "an optimizer that forgot": (("optimizer_states", 0, "state"), {}, FIT),
    "an optimizer's tensor of text": (("optimizer_states", 0, "state", 0, "velocity"), "fast", FIT),
    "an optimizer's tensor of NaN": (("optimizer_states", 0, "state", 0, "velocity"), torch.tensor([[math.nan]]), FIT),
    "an optimizer's group of nothing": (("optimizer_states", 0, "param_groups"), [], FIT),
    "an optimizer of other parameters": (("optimizer_states", 0, "param_groups", 0, "params"), [0], FIT),
    "an optimizer without rate": (("optimizer_states", 0, "param_groups", 0, "lr"), None, FIT),
    "no schedulers": (("lr_schedulers",), [], FIT),
    "an empty scheduler": (("lr_schedulers", 0), {}, FIT),
    "a scheduler's count of text": (("lr_schedulers", 0, "last_epoch"), "one", FIT),
    "callbacks of text": (("callbacks",), "none", FIT),
    "no version of Lightning": (("pytorch-lightning_version",), ABSENT, FIT),
    "a version that is none": (("pytorch-lightning_version",), "latest", FIT),
    "an old version of Lightning": (("pytorch-lightning_version",), "1.5.10", FIT),
}
VALUES = [ABSENT, [], {}, "x", -1, None, math.inf, math.nan, True, [1], [[1]], {1: 2}, {"class_path": "os.system"}]


@pytest.fixture
def saved(run, tmp_path):
    """What a checkpoint of a scheduled and penalized fit holds."""
    flags = ["--model.scheduler", "inverse_time", "--model.scheduler.decay", "0.1", "--model.regularizers+=l2"]
    assert run(["fit", "--trainer.max_epochs", "2", *flags])[0] == 0
    (directory,) = run_directories(tmp_path, "linear_regression")
    return torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)


def _changed(content, path, value):
    content = copy.deepcopy(content)
    *above, name = path
    inside = content
    for step in above:
        inside = inside[step]
    if value is ABSENT:
        del inside[name]
    else:
        inside[name] = value
    return content


def _paths(value, path=()):
    if path:
        yield path
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from _paths(value[name], (*path, name))


@pytest.mark.fault("a checkpoint with a malformed part")
def test_a_malformed_part_is_one_line(run, tmp_path, saved):
    held = []
    for form, (path, value, commands) in FORMS.items():
        torch.save(_changed(saved, path, value), tmp_path / "malformed.ckpt")
        for subcommand in commands:
            status, printed, errors = run([*COMMANDS[subcommand], "--ckpt_path", "malformed.ckpt"])
            if (status, printed, errors.count("\n")) != (2, "", 1) or "malformed.ckpt" not in errors:
                held.append((form, subcommand, status, errors))
    assert held == []
    assert len(run_directories(tmp_path, "linear_regression")) == 1
    assert not (tmp_path / "table.csv").exists()


@pytest.mark.fault("a checkpoint with a part of another type")
@pytest.mark.parametrize("seed", tries(1, 10))
@pytest.mark.filterwarnings("ignore")
def test_any_part_changed_is_one_line_or_irrelevant(run, tmp_path, saved, seed):
    generator = random.Random(seed)
    paths = list(_paths(saved))
    for _ in range(20 if EVERYTHING else 4):
        path, value = generator.choice(paths), generator.choice([*VALUES, torch.ones(3)])
        torch.save(_changed(saved, path, value), tmp_path / "malformed.ckpt")
        for subcommand in ("fit", "test", "predict"):
            status, _, errors = run([*COMMANDS[subcommand], "--ckpt_path", "malformed.ckpt"])
            assert status in (0, 2), (path, value, subcommand)
            assert status == 0 or errors.splitlines()[-1].startswith("linear_regression.py: error: "), (path, errors)


@pytest.mark.fault("a checkpoint with large finite weights")
def test_what_a_diverging_run_saved_can_be_used(run, tmp_path, saved):
    torch.save(_changed(saved, WEIGHT, torch.full((1, 10), 3e37)), tmp_path / "large.ckpt")
    status, _, errors = run(["predict", "--ckpt_path", "large.ckpt", "--output", "table.csv"])
    assert (status, errors) == (0, "")
