"""Which rows train, validate and test: by ratios, by class, by group, or by time.

Every `…_split` returns one sorted index array per ratio, which together hold each row once. All depend on their
arguments alone: every process gets the same splits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def sizes(n: int, ratios: Sequence[float]) -> list[int]:
    """Divide n rows in these ratios, by largest remainder: whole numbers that add up to n.

    Args:
        n: how many rows.
        ratios: at least 0, adding up to 1.

    >>> sizes(442, [0.6, 0.2, 0.2])
    [265, 89, 88]
    """
    counts = _apportion(n, np.asarray(ratios, dtype=np.float64), np.zeros(len(ratios)))
    return [int(count) for count in counts]


def random_split(n: int, ratios: Sequence[float], seed: int) -> list[Rows]:
    """Rows drawn without regard to what they hold.

    Args:
        n: how many rows.
        ratios: at least 0, adding up to 1.
        seed: of the permutation.
    """
    return _cut(np.random.default_rng(seed).permutation(n), sizes(n, ratios))


def drawn_splits(first: int, count: int, ratios: Sequence[float], seed: int) -> NDArray[np.int8]:
    """Which split each of some consecutive rows belongs to, whatever they hold and however many there are.

    Each row is drawn by itself, by the number at its place in one random stream, so that a table can be divided a block
    at a time. The splits' sizes approximate the ratios.

    Args:
        first: the first row's place in the table, from 0.
        count: how many rows.
        ratios: at least 0, adding up to 1.
        seed: of the stream.

    Returns:
        (count,) the index of a ratio for each row.

    >>> drawn_splits(0, 8, [0.5, 0.5], seed=3)[5:].tolist() == drawn_splits(5, 3, [0.5, 0.5], seed=3).tolist()
    True
    """
    uniform = np.random.PCG64(seed).advance(first).random_raw(count) * 2.0**-64
    edges = np.cumsum(ratios)
    # rounding leaves no gap at the end into which a row could fall
    edges[int(np.flatnonzero(ratios)[-1]) :] = np.inf
    return np.searchsorted(edges, uniform, side="right").astype(np.int8)


def stratified_split(labels: NDArray[np.int64], ratios: Sequence[float], seed: int) -> list[Rows]:
    """Rows drawn so that each class has the same shares in every split, as nearly as whole rows allow.

    Each class is divided by largest remainder; where remainders tie, the split that is furthest behind over the classes
    so far gets the row. The first split, which trains, holds every class.

    Args:
        labels: (n,) the class of each row.
        ratios: at least 0, adding up to 1.
        seed: of the permutations within the classes.
    """
    generator = np.random.default_rng(seed)
    shares = np.asarray(ratios, dtype=np.float64)
    splits: list[list[Rows]] = [[] for _ in shares]
    behind = np.zeros(len(shares))
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        counts = _apportion(len(rows), shares, behind)
        if counts[0] == 0 and shares[0] > 0:
            counts[int(counts.argmax())] -= 1
            counts[0] = 1
        behind += len(rows) * shares - counts
        for split, drawn in zip(splits, _cut(rows, counts.tolist()), strict=True):
            split.append(drawn)
    return [np.sort(np.concatenate(split)) for split in splits]


def grouped_split(groups: NDArray[np.int64], ratios: Sequence[float], seed: int) -> list[Rows]:
    """Whole groups drawn so that the splits' rows come near the ratios.

    Groups go from the largest to the smallest, equal ones in random order, each to the split that lacks most rows.

    Args:
        groups: (n,) the group of each row.
        ratios: at least 0, adding up to 1.
        seed: of the order of equally large groups.
    """
    codes, counts = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    order = np.random.default_rng(seed).permutation(len(counts))
    order = order[np.argsort(-counts[order], kind="stable")]
    lacking = np.asarray(ratios, dtype=np.float64) * len(groups)
    wanted = lacking > 0
    split_of = np.empty(len(counts), dtype=np.int64)
    for group in order:
        split = int(np.where(wanted, lacking, -np.inf).argmax())
        split_of[group] = split
        lacking[split] -= counts[group]
    return [np.flatnonzero(split_of[codes] == split) for split in range(len(lacking))]


def ordered_split(ranks: NDArray[np.int64], ratios: Sequence[float]) -> list[Rows]:
    """The earliest rows first: what comes later validates and tests what came before.

    Rows of the same time stay together, in the later split.

    Args:
        ranks: (n,) whole numbers that rise with time.
        ratios: at least 0, adding up to 1.
    """
    order = np.argsort(ranks, kind="stable")
    times = ranks[order]
    ends = np.cumsum(sizes(len(ranks), ratios))
    edges = [int(np.searchsorted(times, times[end])) if end < len(times) else len(times) for end in ends]
    return [np.sort(split) for split in np.split(order, edges[:-1])]


def forward_chaining(ranks: NDArray[np.int64], folds: int) -> list[tuple[Rows, Rows]]:
    """Folds along time, each of which trains on all rows before those that it validates.

    The n rows in order are cut as scikit-learn's TimeSeriesSplit cuts them: ⌊n/(k + 1)⌋ rows validate in each of k
    folds, and the earliest rows only train. Rows of the same time stay together, in the later part.

    Args:
        ranks: (n,) whole numbers that rise with time, of at least k + 1 different ones.
        folds: k.

    Returns:
        training and validation rows of each fold, sorted. Ties can leave a part empty.
    """
    order = np.argsort(ranks, kind="stable")
    times, n = ranks[order], len(ranks)
    size = n // (folds + 1)
    edges = [int(np.searchsorted(times, times[n - size * left])) for left in range(folds, 0, -1)]
    ends = [*edges[1:], n]
    return [(np.sort(order[:edge]), np.sort(order[edge:end])) for edge, end in zip(edges, ends, strict=True)]


def _apportion(n: int, shares: NDArray[np.float64], behind: NDArray[np.float64]) -> NDArray[np.int64]:
    """Largest remainder; equal remainders go first to the split that is furthest behind, then to the earlier one."""
    exact = n * shares
    # the tolerance: 0.6 · 50 is a rounding error above 30, and 0.2 · 15 must not lose its third row
    counts = np.floor(exact + 1e-9).astype(np.int64)
    remainders = np.round(exact - counts, 9)
    first = np.lexsort((np.arange(len(shares)), -np.round(behind, 9), -remainders))
    counts[first[: n - int(counts.sum())]] += 1
    return counts


def _cut(rows: Rows, counts: Sequence[int]) -> list[Rows]:
    return [np.sort(split) for split in np.split(rows, np.cumsum(counts)[:-1])]
