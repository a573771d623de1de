"""Batches of other people's loaders."""

import pytest
import torch

from torchplug.batch import Batch, as_batch

X, Y = torch.zeros(5, 2), torch.zeros(5, 1)


def test_our_own_batches_pass_through():
    batch = Batch(X, Y, torch.ones(5), 20, 3)
    assert as_batch(batch, 0, world=4, window=7, batches=9) is batch


def test_weights_are_ones_unless_given():
    assert torch.equal(as_batch((X, Y), 0, world=1, window=1, batches=1).weight, torch.ones(5))
    weight = torch.arange(5.0)
    assert torch.equal(as_batch([X, Y, weight], 0, world=1, window=1, batches=1).weight, weight)


@pytest.mark.parametrize(
    ("index", "window", "batches", "micro_batches"),
    [(0, 1, 4, 1), (0, 3, 7, 3), (5, 3, 7, 3), (6, 3, 7, 1), (7, 4, 6, 2)],
)
def test_windows_and_ranks_are_counted(index, window, batches, micro_batches):
    batch = as_batch((X, Y), min(index, batches - 1), world=2, window=window, batches=batches)
    assert (batch.samples, batch.micro_batches) == (5 * 2 * micro_batches, micro_batches)


def test_an_endless_loader_has_whole_windows():
    assert as_batch((X, Y), 10, world=1, window=4, batches=float("inf")).micro_batches == 4


@pytest.mark.parametrize("target", [torch.tensor([True, False]), torch.tensor([1, 0]), torch.tensor([1.0, 0.0])])
def test_a_flat_target_is_a_column_of_numbers(target):
    batch = as_batch((X[:2], target), 0, world=1, window=1, batches=1)
    assert torch.equal(batch.target, torch.tensor([[1.0], [0.0]]))


def test_class_indices_stay_flat():
    indices = torch.tensor([2, 0])
    assert as_batch((X[:2], indices), 0, world=1, window=1, batches=1, indices=True).target is indices
