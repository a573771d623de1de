"""What a process keeps of fits that are over: nothing."""

import gc
import os
import threading

import pytest
import torch

import torchplug
from small_fits import regression
from torchplug import use

CONFIG = {"model": use("mlp", hidden=[4]), "optimizer": use("adam", lr=1e-2)}
ROUNDS = 4


def fit(number, **options):
    torchplug.fit(CONFIG, regression(), seed=number, **options)


def cross_validate(number, **options):
    torchplug.cross_validate(CONFIG, regression(), folds=3, seed=number, **options)


def search(number, **options):
    space = {"model.optimizer.lr": "log(1e-3,1e-1)"}
    torchplug.search(CONFIG, regression(), random=space, trials=4, repeats=0, seed=number, **options)


def held():
    """Live tensors, modules and threads, and open files."""
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    tensors, modules = (sum(issubclass(kind, base) for kind in kinds) for base in (torch.Tensor, torch.nn.Module))
    return {"tensors": tensors, "modules": modules, "threads": threading.active_count(), "files": _files()}


def _files():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize("way", [fit, cross_validate, search])
def test_nothing_is_kept_of_fits_that_are_over(tmp_path, way):
    options = {
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
        "tracking": {"mode": "disabled"},
        "root": tmp_path,
    }
    for number in range(2):  # what is made once, such as the registry
        way(number, **options)
    before = held()
    for number in range(ROUNDS):
        way(2 + number, **options)
    assert held() == before
