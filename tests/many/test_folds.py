"""Batches of several folds at once are those of each fold's own loader."""

import torch

from torchplug.data.loaders import Loader
from torchplug.many.folds import FoldTables


def loader(n, seed, weight=False, batch_size=4, shuffle=True):
    generator = torch.Generator().manual_seed(n)
    features, target = torch.randn(n, 3, generator=generator), torch.randn(n, 1, generator=generator)
    given = torch.rand(n, generator=generator) if weight else None
    return Loader(features, target, given, batch_size=batch_size, shuffle=shuffle, seed=seed)


def assert_batches(loaders, epochs=2, **options):
    tables = FoldTables(loaders, torch.device("cpu"), **options)
    assert tables.steps == [len(each) for each in loaders]
    for epoch in range(epochs):
        for each in loaders:
            each.set_epoch(epoch)
        expected = [list(each) for each in loaders]
        found = list(tables.epoch(epoch))
        assert len(found) == max(tables.steps)
        for step, batch in enumerate(found):
            for fold, own in enumerate(expected):
                count = batch.samples[fold]
                weight = torch.ones(len(batch.target[fold])) if batch.weight is None else batch.weight[fold]
                assert not weight[count:].any(), "padding weighs nothing"
                if step >= len(own):
                    assert count == 0
                    continue
                assert count == own[step].samples
                features = batch.features[fold, :count]
                torch.testing.assert_close(features[:, :3], own[step].features, rtol=0, atol=0)
                torch.testing.assert_close(batch.target[fold, :count], own[step].target, rtol=0, atol=0)
                torch.testing.assert_close(weight[:count], own[step].weight, rtol=0, atol=0)
                assert features.shape[1] == 3 or bool((features[:, 3] == 1).all())


def test_ragged_folds_have_their_own_order_and_last_batch():
    assert_batches([loader(10, 0), loader(25, 1), loader(3, 1)])
    assert_batches([loader(10, 0), loader(25, 1)], with_ones=True)


def test_weights_of_some_folds_are_those_of_all():
    assert_batches([loader(10, 0, weight=True), loader(9, 1)])


def test_a_single_fold_without_weights_has_none():
    (first, *_) = FoldTables([loader(10, 0)], torch.device("cpu")).epoch(0)
    assert first.weight is None
    assert_batches([loader(10, 0)])


def test_full_batches_are_one_step_of_different_lengths():
    assert_batches([loader(10, 0, batch_size="full"), loader(7, 0, batch_size="full")])
    assert_batches([loader(10, 0, shuffle=False)])
