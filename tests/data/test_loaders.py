import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug.data.loaders import Loader


def make(n, **options):
    rows = torch.arange(n, dtype=torch.float64)
    return Loader(rows[:, None], rows[:, None] * 2, rows + 1, **options)


def rows_of(batch):
    values = batch.features[:, 0].tolist()
    assert batch.target[:, 0].tolist() == [2 * value for value in values]
    assert batch.weight.tolist() == [value + 1 for value in values]
    return values


sizes = st.one_of(st.integers(1, 12), st.just("full"))


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 50), st.integers(1, 3), sizes, st.integers(1, 4), st.booleans(), st.integers(0, 3))
def test_an_epoch_holds_every_row_once(n, world, batch_size, window, shuffle, epoch):
    loaders = [
        make(n, batch_size=batch_size, shuffle=shuffle, seed=7, rank=rank, world=world, window=lambda: window)
        for rank in range(world)
    ]
    for loader in loaders:
        loader.set_epoch(epoch)
    epochs = [list(loader) for loader in loaders]
    assert {len(batches) for batches in epochs} == {len(loaders[0])}
    assert sorted(itertools.chain.from_iterable(rows_of(b) for batches in epochs for b in batches)) == list(range(n))
    # samples and micro-batches against a count of what was given out
    steps = [list(range(i, min(i + window, len(loaders[0])))) for i in range(0, len(loaders[0]), window)]
    for step in steps:
        total = sum(len(batches[i].weight) for batches in epochs for i in step)
        assert {(batches[i].samples, batches[i].micro_batches) for batches in epochs for i in step} == {
            (total, len(step))
        }
    for position in range(len(loaders[0])):
        counts = [len(batches[position].weight) for batches in epochs]
        assert max(counts) - min(counts) <= 1
        assert counts == sorted(counts, reverse=True)
    smallest = min(len(b.weight) for batches in epochs for b in batches if len(b.weight))
    assert loaders[0].smallest_batch == smallest


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(2, 3), st.integers(1, 8))
def test_ranks_see_what_one_process_accumulates(n, world, batch_size):
    alone = [rows_of(batch) for batch in make(n, batch_size=batch_size, shuffle=True, seed=3)]
    ranks = [
        [rows_of(batch) for batch in make(n, batch_size=batch_size, shuffle=True, seed=3, rank=rank, world=world)]
        for rank in range(world)
    ]
    for position in range(n // (batch_size * world)):
        assert [batches[position] for batches in ranks] == alone[position * world : (position + 1) * world]


@pytest.mark.parametrize(("n", "world"), list(itertools.product(range(1, 11), range(1, 4))))
@pytest.mark.parametrize("batch_size", [1, 2, 4, 1024, "full"])
def test_evaluation_sees_every_row_once_in_order(n, world, batch_size):
    loaders = [make(n, batch_size=batch_size, rank=rank, world=world) for rank in range(world)]
    epochs = [list(loader) for loader in loaders]
    assert {len(batches) for batches in epochs} == {len(loaders[0])}
    together = [row for position in zip(*epochs, strict=True) for batch in position for row in rows_of(batch)]
    assert together == list(range(n))
    for loader, batches in zip(loaders, epochs, strict=True):
        assert [loader.rows(i).tolist() for i in range(len(loader))] == [rows_of(batch) for batch in batches]


def test_epochs_and_seeds_give_different_orders():
    loader = make(100, batch_size=100, shuffle=True, seed=1)
    orders = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        orders.append(tuple(rows_of(next(iter(loader)))))
    other = make(100, batch_size=100, shuffle=True, seed=2)
    orders.append(tuple(rows_of(next(iter(other)))))
    assert len(set(orders)) == 4
    loader.set_epoch(0)
    assert tuple(rows_of(next(iter(loader)))) == orders[0]


def test_windows_end_at_the_limit():
    loader = make(100, batch_size=10, window=lambda: 4, limit=lambda: 6)
    batches = list(loader)
    assert [(batch.samples, batch.micro_batches) for batch in batches] == [(40, 4)] * 4 + [(20, 2)] * 2


def test_window_is_asked_anew_each_time():
    window = 1
    loader = make(40, batch_size=10, window=lambda: window)
    assert [batch.micro_batches for batch in loader] == [1, 1, 1, 1]
    window = 2
    assert [batch.micro_batches for batch in loader] == [2, 2, 2, 2]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("taken", range(8))
def test_a_restored_loader_gives_the_batches_that_are_left(shuffle, taken):
    options = {"batch_size": 10, "shuffle": shuffle, "seed": 5}
    whole = make(75, **options)
    whole.set_epoch(3)
    expected = [rows_of(batch) for batch in whole]
    broken = make(75, **options)
    broken.set_epoch(3)
    list(itertools.islice(iter(broken), taken))
    restored = make(75, **options)
    restored.load_state_dict(broken.state_dict())
    restored.set_epoch(3)
    iter(restored)  # Lightning makes iterators that it never asks for a batch
    assert [rows_of(batch) for batch in restored] == expected[taken:]
    # the next epoch is whole again
    assert len(list(restored)) == 8


def test_a_window_that_was_broken_off_counts_what_is_left_of_it():
    loader = make(100, batch_size=10, window=lambda: 4)
    loader.load_state_dict({"epoch": 0, "position": 2})
    assert [(b.samples, b.micro_batches) for b in loader] == [(20, 2)] * 2 + [(40, 4)] * 4 + [(20, 2)] * 2


def test_a_finished_or_other_epoch_starts_anew():
    loader = make(30, batch_size=10, shuffle=True)
    loader.load_state_dict({"epoch": 0, "position": 3})
    assert len(list(loader)) == 3
    loader.load_state_dict({"epoch": 4, "position": 1})
    loader.set_epoch(5)
    assert len(list(loader)) == 3


def test_the_trainers_count_decides_what_is_done():
    loader = make(30, batch_size=10, consumed=lambda: 1)
    list(itertools.islice(iter(loader), 2))
    assert loader.state_dict() == {"epoch": 0, "position": 1}


def test_full_batches_keep_the_tensors():
    features = torch.randn(10, 2)
    loader = Loader(features, features, torch.ones(10), batch_size="full", shuffle=True)
    (batch,) = loader
    assert batch.features.data_ptr() == features.data_ptr()
    assert math.isclose(batch.samples, 10)
