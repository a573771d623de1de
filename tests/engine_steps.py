"""Gradient engines without a trainer: what tests of them share."""

from contextlib import nullcontext

import torch
from torch import nn

from torchplug.batch import Batch
from torchplug.components.contracts import Loss
from torchplug.engine.analytic import Analytic
from torchplug.engine.autograd import Autograd
from torchplug.flat_storage import FlatStorage
from torchplug.objective import StepObjective


class Squared(Loss):
    """Squared error, with its derivative."""

    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)

    def derivative(self, scores, target):
        return (scores - target) * 2.0


class Told:
    """What an engine tells of losses on its way."""

    def __init__(self, loss):
        self.loss = loss
        self.weighted = 0.0
        self.rows = 0

    def add(self, weighted, rows):
        assert not weighted.requires_grad
        self.weighted += float(weighted)
        self.rows += rows

    def defer(self, scores, target, weight):
        with torch.no_grad():
            values = self.loss(scores, target)
            self.add((values if weight is None else values * weight).sum(), len(target))


def network(dtype=torch.float64, outputs=2):
    """A chain with three features."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, outputs)).to(dtype)


def batch(rows=5, dtype=torch.float64, seed=0, uniform=False, outputs=2, samples=None, micro_batches=1):
    """A batch for it."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 3, generator=generator, dtype=dtype)
    target = torch.randn(rows, outputs, generator=generator, dtype=dtype)
    weight = torch.ones(rows, dtype=dtype) if uniform else torch.rand(rows, generator=generator, dtype=dtype)
    return Batch(features, target, weight, rows if samples is None else samples, micro_batches)


def objective_of(net, penalties=(), reduction="mean", loss=None):
    """F of a batch."""
    return StepObjective(net, loss or Squared(), penalties, reduction)


def stored(objective):
    """The storage of an objective's parameters."""
    return FlatStorage([objective.parameters()])


def analytic(objective, storage=None):
    """The engine, and what it tells."""
    told = Told(objective.loss)
    return Analytic(objective, told, storage or stored(objective), nullcontext), told


def autograd(objective, storage=None):
    """The engine, and what it tells."""
    told = Told(objective.loss)
    return Autograd(objective, told, storage, nullcontext), told


def gradients(objective):
    """A copy of each parameter's gradient."""
    return [None if p.grad is None else p.grad.clone() for p in objective.parameters()]
