import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug.data.loaders import Loader, generator


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


# ---------------------------------------------------------------------- several batches at once


def numbers(n, width, dtype=torch.float32, uniform=False):
    """Rows of some width, which blocks of aligned batches depend on."""
    rows = torch.arange(n, dtype=dtype)
    weight = torch.ones(n, dtype=dtype) if uniform else rows + 1
    return rows[:, None] + torch.arange(width, dtype=dtype) / 100, rows[:, None] * 2, weight


def in_chunks(loader, position, counts):
    """The batches that calls for so many each give."""
    batches = []
    for count in counts:
        blocks = list(loader.blocks(position, count, lambda rows: rows))
        assert sum(len(block.batches) for block in blocks) == count
        for block in blocks:
            assert block.uniform == all(bool((b.weight == 1).all()) for b in block.batches)
            batches += block.batches
        position += count
    return batches


def assert_alike(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert (a.samples, a.micro_batches) == (b.samples, b.micro_batches)
        for mine, other in zip(a[:3], b[:3], strict=True):
            assert torch.equal(mine, other)


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 90),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 17),
    st.booleans(),
    st.booleans(),
    st.data(),
)
def test_chunks_hold_the_batches_of_the_epoch(n, world, batch_size, width, shuffle, uniform, data):
    for rank in range(world):
        options = {"batch_size": batch_size, "shuffle": shuffle, "seed": 4, "rank": rank, "world": world}
        loader = Loader(*numbers(n, width, uniform=uniform), **options)
        loader.set_epoch(2)
        expected = list(loader)
        position = data.draw(st.integers(0, len(expected) - 1))
        counts = data.draw(st.lists(st.integers(1, 9), max_size=5))
        counts = [c for i, c in enumerate(counts) if position + sum(counts[: i + 1]) <= len(expected)]
        assert_alike(in_chunks(loader, position, counts), expected[position : position + sum(counts)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("batch_size", "width"), [(16, 1), (8, 2), (4, 4), (1, 16), (16, 3), (32, 5)])
def test_aligned_batches_are_read_together_and_start_where_tensors_do(batch_size, width, shuffle, dtype):
    loader = Loader(*numbers(1000, width, dtype), batch_size=batch_size, shuffle=shuffle)
    single, *several = loader.blocks(0, len(loader), lambda rows: rows)
    assert len(single.batches) == 1, "before it is known how wide a row is"
    assert len(several) < len(loader) / 4
    assert all(b.features.data_ptr() % 64 == 0 for block in several for b in block.batches)
    (again,) = loader.blocks(0, 5, lambda rows: rows)
    assert len(again.batches) == 5


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("uniform", [True, False])
def test_several_batches_as_rows_are_those_of_the_chunks(shuffle, uniform):
    loader = Loader(*numbers(100, 4, uniform=uniform), batch_size=8, shuffle=shuffle)
    assert loader.aligned
    batches = [batch for block in loader.blocks(0, 9, lambda rows: rows) for batch in block.batches]
    several = loader.concatenated(3, 5)
    for rows, each in zip(several, list(zip(*batches[3:8], strict=True))[:3], strict=True):
        assert torch.equal(rows, torch.cat(each))


@pytest.mark.parametrize(("batch_size", "width"), [(7, 3), (5, 1), (16, 0)])
def test_batches_that_would_start_anywhere_are_read_singly(batch_size, width):
    loader = Loader(*numbers(100, width), batch_size=batch_size)
    assert not loader.aligned
    assert all(len(block.batches) == 1 for block in loader.blocks(0, len(loader), lambda rows: rows))


def test_large_batches_are_read_singly():
    """What does not fit into a cache is used while it is warm."""
    loader = Loader(*numbers(5 * 2**13, 16), batch_size=2**13)
    assert [len(block.batches) for block in loader.blocks(0, 5, lambda rows: rows)] == [1] * 5


def test_one_weight_that_is_not_1_makes_a_chunk_uneven():
    features, target, weight = numbers(160, 1, uniform=True)
    weight[100] = 2.0
    loader = Loader(features, target, weight, batch_size=16)
    blocks = list(loader.blocks(0, 10, lambda rows: rows))
    uniform = {id(b): block.uniform for block in blocks for b in block.batches}
    batches = [b for block in blocks for b in block.batches]
    assert not uniform[id(batches[6])]
    assert batches[6].weight.tolist() == [1.0] * 4 + [2.0] + [1.0] * 11
    assert all((b.weight == 1).all() for i, b in enumerate(batches) if i != 6)


def test_rows_are_placed_before_they_are_cut():
    placed = []

    def place(rows):
        placed.append(len(rows.target))
        return type(rows)(*(tensor + 1 for tensor in rows))

    loader = Loader(*numbers(160, 1, uniform=True), batch_size=16)
    batches = [b for block in loader.blocks(0, 10, place) for b in block.batches]
    assert sum(placed) == 160
    assert len(placed) < 10
    assert [b.target[0].item() for b in batches] == [32.0 * i + 1 for i in range(10)]
    assert all((b.weight == 2).all() for b in batches)


# ---------------------------------------------------------------------- groups of batches


def lasts(sizes, leading):
    """A filter that passes on the last batch of each group, and notes the first rows of those before it."""
    sizes = iter(sizes)

    def through(groups):
        for group in groups(lambda: next(sizes)):
            blocks = group.blocks(0, group.leading, lambda rows: rows) if group.leading else []
            leading.append([rows_of(batch)[0] for block in blocks for batch in block.batches])
            yield group.last()

    return through


def test_a_filter_gets_the_epoch_in_groups():
    """A group that is asked for more batches than there are ends with the epoch."""
    loader, leading = make(95, batch_size=10), []
    loader.through = lasts([4, 4, 4], leading)
    assert [rows_of(batch)[0] for batch in loader] == [30.0, 70.0, 90.0]
    assert leading == [[0.0, 10.0, 20.0], [40.0, 50.0, 60.0], [80.0]]
    assert loader.state_dict()["position"] == 10


def test_a_filter_is_used_once():
    """By the first iterator to begin, not by the first to be made."""
    loader, leading = make(95, batch_size=10), []
    loader.through = lasts([5, 5], leading)
    unused, used, other = iter(loader), iter(loader), iter(loader)
    assert rows_of(next(used)) == list(range(40, 50))
    assert rows_of(next(other)) == list(range(10))
    assert rows_of(next(unused)) == list(range(10))
    assert [rows_of(batch)[0] for batch in used] == [90.0]
    assert len(list(loader)) == 10
    assert [len(group) for group in leading] == [4, 4]


def test_a_restored_loader_gives_groups_from_where_it_goes_on():
    loader, leading = make(95, batch_size=10), []
    loader.through = lasts([1, 2, 1], leading)
    loader.load_state_dict({"epoch": 0, "position": 6})
    assert [rows_of(batch)[0] for batch in loader] == [60.0, 80.0, 90.0]
    assert leading == [[], [70.0], []]


def test_windows_go_on_behind_leading_batches():
    """Samples and micro-batches are those of the batch's own step."""
    loader = make(95, batch_size=10)
    loader.through = lasts([3, 1, 4, 1, 1], [])
    found = [(rows_of(batch)[0], batch.samples, batch.micro_batches) for batch in loader]
    assert found == [(20.0, 10, 1), (30.0, 10, 1), (70.0, 10, 1), (80.0, 10, 1), (90.0, 5, 1)]


def test_a_groups_last_batch_is_read_after_the_leading_ones():
    """Accumulation may begin with it."""
    window = 1
    loader = make(100, batch_size=10, window=lambda: window)
    (group, *_) = loader.groups(lambda: 5)
    list(group.blocks(0, 4, lambda rows: rows))
    window = 2
    assert group.last().micro_batches == 2


# ---------------------------------------------------------------------- memory


def test_an_order_is_torchs_permutation_in_half_the_memory():
    loader = make(1000, batch_size=1000, shuffle=True, seed=3)
    loader.set_epoch(2)
    order = torch.randperm(1000, generator=generator(3, 2))
    assert torch.equal(loader.rows(0), order)
    assert loader.rows(0).dtype == torch.int64
    assert loader.order(2).dtype == torch.int32


@pytest.mark.parametrize("shuffle", [True, False])
def test_weights_of_1_are_not_kept(shuffle):
    features, target, ones = numbers(100, 3, uniform=True)
    options = {"batch_size": 30, "shuffle": shuffle, "seed": 1}
    given, none = Loader(features, target, ones, **options), Loader(features, target, None, **options)
    assert given.is_uniform
    assert_alike(list(given), list(none))
    assert [batch.weight.tolist() for batch in none] == [[1.0] * 30] * 3 + [[1.0] * 10]
    assert {batch.weight.dtype for batch in none} == {torch.float32}
