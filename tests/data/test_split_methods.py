import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from torchplug.data.split_methods import (
    drawn_splits,
    grouped_split,
    ordered_split,
    random_split,
    sizes,
    stratified_split,
)

ratios = st.sampled_from(
    [(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.8, 0.2, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.0, 0.5)]
)


def assert_partition(splits, n):
    assert np.array_equal(np.sort(np.concatenate(splits)), np.arange(n))
    assert all(np.array_equal(split, np.sort(split)) for split in splits)


@given(st.integers(0, 500), ratios)
def test_sizes_add_up_and_are_within_one_row(n, shares):
    counts = sizes(n, shares)
    assert sum(counts) == n
    assert all(abs(count - n * share) < 1 for count, share in zip(counts, shares, strict=True))
    assert all(count == 0 for count, share in zip(counts, shares, strict=True) if share == 0)


@pytest.mark.parametrize(
    ("n", "shares", "expected"),
    [
        (100, (0.6, 0.2, 0.2), [60, 20, 20]),
        (15, (0.6, 0.2, 0.2), [9, 3, 3]),
        (442, (0.6, 0.2, 0.2), [265, 89, 88]),
        (569, (0.8, 0.1, 0.1), [455, 57, 57]),
        (3, (0.6, 0.2, 0.2), [2, 1, 0]),
    ],
)
def test_sizes_by_hand(n, shares, expected):
    assert sizes(n, shares) == expected


@given(st.integers(1, 200), ratios, st.integers(0, 10))
def test_random_split_is_a_seeded_partition(n, shares, seed):
    splits = random_split(n, shares, seed)
    assert_partition(splits, n)
    assert [len(split) for split in splits] == sizes(n, shares)
    assert all(np.array_equal(a, b) for a, b in zip(splits, random_split(n, shares, seed), strict=True))


def test_seeds_differ():
    assert not np.array_equal(random_split(100, (0.6, 0.2, 0.2), 0)[0], random_split(100, (0.6, 0.2, 0.2), 1)[0])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), ratios, st.integers(0, 5))
def test_stratified_split_keeps_shares(labels, shares, seed):
    labels = np.array(labels)
    splits = stratified_split(labels, shares, seed)
    assert_partition(splits, len(labels))
    for label in np.unique(labels):
        size = (labels == label).sum()
        counts = [int((labels[split] == label).sum()) for split in splits]
        assert counts[0] >= 1
        assert all(abs(count - size * share) < 1.5 for count, share in zip(counts, shares, strict=True))
        if size >= 3:
            assert all(abs(count - size * share) < 1 for count, share in zip(counts, shares, strict=True))


def test_stratified_split_has_the_counts_of_scikit_learns():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    train, rest, _ = stratified_split(labels, (0.8, 0.2, 0.0), 0)
    theirs = train_test_split(np.arange(100), train_size=0.8, stratify=labels, random_state=0)
    assert np.array_equal(np.bincount(labels[train]), np.bincount(labels[theirs[0]]))
    assert np.array_equal(np.bincount(labels[rest]), np.bincount(labels[theirs[1]]))


def test_tied_remainders_are_shared_between_splits():
    # each class of 7 leaves one row to validation or test; always the same one would skew the splits
    counts = [len(split) for split in stratified_split(np.repeat(np.arange(6), 7), (0.6, 0.2, 0.2), 0)]
    assert counts == [24, 9, 9]


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=200), ratios, st.integers(0, 5))
def test_groups_stay_together(groups, shares, seed):
    groups = np.array(groups)
    splits = grouped_split(groups, shares, seed)
    assert_partition(splits, len(groups))
    for group in np.unique(groups):
        assert sum(bool((groups[split] == group).any()) for split in splits) == 1
    largest = np.bincount(groups).max()
    for split, share in zip(splits, shares, strict=True):
        assert (len(split) == 0) if share == 0 else (abs(len(split) - share * len(groups)) <= 2 * largest)


def test_many_small_groups_meet_the_ratios():
    splits = grouped_split(np.repeat(np.arange(50), 2), (0.6, 0.2, 0.2), 3)
    assert [len(split) for split in splits] == [60, 20, 20]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=100), ratios)
def test_time_never_runs_backwards(times, shares):
    times = np.array(times)
    splits = ordered_split(times, shares)
    assert_partition(splits, len(times))
    filled = [times[split] for split in splits if len(split)]
    assert all(earlier.max() < later.min() for earlier, later in itertools.pairwise(filled))


def test_ordered_split_without_ties_has_the_exact_sizes():
    times = np.random.default_rng(0).permutation(100)
    splits = ordered_split(times, (0.6, 0.2, 0.2))
    assert [sorted(times[split]) for split in splits] == [
        list(range(60)),
        list(range(60, 80)),
        list(range(80, 100)),
    ]


@given(ratios, st.integers(0, 10**12), st.integers(0, 300), st.integers(0, 300), st.integers(0, 5))
def test_rows_are_drawn_alike_in_any_pieces(shares, first, count, more, seed):
    whole = drawn_splits(first, count + more, shares, seed)
    pieces = [drawn_splits(first, count, shares, seed), drawn_splits(first + count, more, shares, seed)]
    assert np.concatenate(pieces).tolist() == whole.tolist()
    assert all(shares[split] > 0 for split in whole)


def test_drawn_splits_have_their_shares():
    n = 200_000
    drawn = drawn_splits(0, n, (0.6, 0.2, 0.2), seed=1)
    shares = np.bincount(drawn) / n
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=4 * np.sqrt(0.25 / n))
    # neighbours are drawn independently
    both = np.mean((drawn[1:] == 0) & (drawn[:-1] == 0))
    assert abs(both - 0.36) < 4 * np.sqrt(0.25 / n)
