"""Sums over the rows of a training set, a block at a time, on every rank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from torchplug.batch import Rows, TrainingSet
from torchplug.objective.least_squares import Accumulation, Block
from torchplug.objective.reductions import Ranks, cut, tree_sum

_UNIT = 1024
"""Runs of rows are multiples of this, whatever the number of ranks."""
_BLOCK_NUMBERS = 2**21
"""How many numbers of a layer's output a block of rows may hold: 16 MiB."""


class RowSums:
    """Reads rows in blocks, and adds up over all ranks in the order of `tree_sum`, so that every rank has equal bits.

    Args:
        training_set: the rows.
        ranks: who computes together.
        like: a parameter, whose device rows are moved to and whose type sums have.
        width: the most numbers that a row turns into on the way through the network.
        block_rows: how many rows are worked on at once; None: as many as some 16 MiB hold.
    """

    def __init__(
        self, training_set: TrainingSet, ranks: Ranks, like: Tensor, width: int, block_rows: int | None = None
    ) -> None:
        self.ranks = ranks
        self.block_rows = block_rows
        self._training_set = training_set
        self._like = like
        self._width = width
        self._runs = cut(training_set.samples, _UNIT)

    def zeros(self, *size: int) -> Tensor:
        """Zeros of the type and on the device of the parameters."""
        return torch.zeros(*size, dtype=self._like.dtype, device=self._like.device)

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`."""
        rows = self._training_set.read(start, stop)
        device = self._like.device
        if rows.weight.device == device:
            return rows
        return Rows(*(tree_map(lambda leaf: leaf.to(device), field) for field in rows))

    def blocks(self, start: int, stop: int, numbers: int) -> Iterator[Rows]:
        """Rows `start` to `stop`, in blocks for a computation that holds so many numbers per row."""
        size = self.block_rows or max(1, _BLOCK_NUMBERS // max(numbers, self._width))
        return self.blocks_of(start, stop, size)

    def blocks_of(self, start: int, stop: int, size: int) -> Iterator[Rows]:
        """Rows `start` to `stop`, `size` at a time."""
        for first in range(start, stop, size):
            yield self.read(first, min(first + size, stop))

    def sum(self, of: Callable[[Rows], Tensor], shape: tuple[int, ...], numbers: int = 1) -> Tensor:
        """The sum of `of(block)` over all rows.

        Args:
            of: a function of a block; its result may be changed in place.
            shape: that of its results.
            numbers: how many numbers it holds per row, those in the network aside.
        """

        def leaf(start: int, stop: int) -> Tensor:
            terms = map(of, self.blocks(start, stop, numbers))
            total = next(terms)
            for term in terms:
                total.add_(term)
            return total

        return tree_sum(self._runs, leaf, self.zeros(*shape), self.ranks)

    def accumulated(self, sums: Accumulation, blocks: Callable[[int, int], Iterable[Block]]) -> Tensor:
        """R over all rows.

        Args:
            sums: summarizes blocks.
            blocks: those of rows `start` to `stop`.
        """
        # a run of few rows would cost more to merge than to factorize
        runs = cut(self._training_set.samples, -(-8 * sums.size // sums.block_rows) * sums.block_rows)
        summary = tree_sum(
            runs, lambda start, stop: sums.summarize(blocks(start, stop)), sums.zero, self.ranks, sums.combine
        )
        return sums.factor(summary)
