"""Running means of the loss: in float64, and of losses that are computed later."""

import weakref

import torch

from torchplug import Loss
from torchplug.objective.reductions import Ranks
from torchplug.training.running_means import RunningMeans


class Squared(Loss):
    kind = "regression"

    def forward(self, scores, target):
        return (scores - target).square().sum(1)


def running_means():
    return RunningMeans(torch.device("cpu"), Squared(), Ranks())


def test_running_mean_adds_in_float64():
    means = running_means()
    means.add(torch.tensor(1e8), 1)
    for _ in range(10):
        means.add(torch.tensor(1.0), 1)
    assert means.row() == (1e8 + 10, 11)


def test_losses_that_were_left_for_later_are_those_of_now():
    now, later = (running_means() for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    for rows in [*range(1, 300), 70_000, 5, 0, 1]:
        scores, target = torch.randn(2, rows, 1, generator=generator)
        weight = torch.rand(rows, generator=generator) if rows % 3 else None  # None: all are 1
        values = Squared()(scores, target)
        now.add((values if weight is None else values * weight).sum(dtype=torch.float64), rows)
        later.defer(scores, target, weight)
    for sums in ("row", "epoch", "row", "epoch"):  # the second time there is nothing
        wanted, found = getattr(now, sums)(), getattr(later, sums)()
        torch.testing.assert_close(found, wanted, rtol=1e-7, atol=0)


def test_memory_for_later_losses_is_bounded():
    means = running_means()
    held = []
    for rows, kept in ((1, 127), (1000, 65_535)):
        for _ in range(500):
            scores = torch.zeros(rows, 1)
            held.append(weakref.ref(scores))
            means.defer(scores, torch.ones(rows, 1), torch.ones(rows))
            del scores
            alive = [tensor for tensor in (reference() for reference in held) if tensor is not None]
            assert len(alive) <= 127
            assert sum(map(len, alive)) <= kept
            held = [weakref.ref(tensor) for tensor in alive]
            del alive
    assert means.epoch() == (500 * 1001, 500 * 1001)
