"""Objectives over tables in memory, with the core's losses and penalties."""

import sys
from pathlib import Path

import torch

from torchplug import Objective
from torchplug.batch import Rows
from torchplug.components.models import Linear

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "objective"))

DOUBLE = torch.float64


class InMemory:
    def __init__(self, features, target):
        self.tensors = (features, target, torch.ones(len(features), dtype=DOUBLE))
        self.samples = len(features)

    def read(self, start, stop):
        return Rows(*(tensor[start:stop] for tensor in self.tensors))


def features(n, d, seed=0, correlation=0.5):
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(n, 1, generator=generator, dtype=DOUBLE)
    return correlation * common + torch.randn(n, d, generator=generator, dtype=DOUBLE)


def signal(X, seed=1, share=0.3):
    generator = torch.Generator().manual_seed(seed)
    d = X.shape[1]
    weights = torch.randn(d, generator=generator, dtype=DOUBLE) * (torch.rand(d, generator=generator) < share)
    noise = torch.randn(len(X), generator=generator, dtype=DOUBLE)
    return X @ weights + noise + 0.7


def numbers(n, d, **settings):
    X = features(n, d, **settings)
    return X, signal(X).unsqueeze(1)


def labels(n, d, **settings):
    X = features(n, d, **settings)
    z = signal(X)
    return X, (z + 0.5 * z.std() * torch.randn(n, generator=torch.Generator().manual_seed(2)) > 0).double().unsqueeze(1)


def linear(data, loss, penalties, bias=True, network=None, **settings):
    """The objective of a linear model that starts at zero, or of another network."""
    X, y = data
    if network is None:
        network = Linear(X.shape[1], 1 if y.ndim == 2 else int(y.max()) + 1, bias=bias).double()
        for p in network.parameters():
            torch.nn.init.zeros_(p)
    return Objective(network, loss, penalties, InMemory(X, y), **settings)


def train(make, objective, steps=200, **settings):
    """Step until there is an outcome; returns the optimizer."""
    optimizer = make(objective.parameters, **settings)
    run(optimizer, objective, steps)
    return optimizer


def run(optimizer, objective, steps=200):
    for _ in range(steps):
        optimizer.step(objective=objective)
        if optimizer.outcome is not None:
            break
