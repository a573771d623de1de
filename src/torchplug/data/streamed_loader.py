"""Batches from a file that is larger than memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.batch import Rows
from torchplug.data.loaders import Batches, generator, merged
from torchplug.data.precision import refuse_infinite

_BUFFER_BLOCKS = 4
"""How many blocks of the file lie in memory together to be shuffled."""


class BlockReader(Protocol):
    """Rows of a split, read a block at a time.

    Attributes:
        samples: n, how many rows.
        starts: (blocks + 1,) where each block begins.
    """

    samples: int
    starts: NDArray[np.int64]

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`."""
        ...


class StreamedLoader(Batches):
    """Batches that are read when they are asked for.

    A shuffled epoch takes the file's blocks in random order, a few at a time, and the rows of these in random order:
    rows that lie far from each other in the file meet in a batch only if their blocks do. Every rank reads the same
    blocks and takes its own rows.

    Args:
        split: the rows.
        dtype: of features, weights and targets that are no class indices.
        options: what `Batches` takes.
    """

    def __init__(self, split: BlockReader, dtype: torch.dtype, **options: Any) -> None:
        super().__init__(split.samples, **options)
        self._split = split
        self._dtype = dtype
        self._order: tuple[int, _Order] | None = None

    def _read(self, spans: Sequence[tuple[int, int]]) -> Rows:
        found = [rows for low, high in merged(spans) for rows in self._span(low, high)]
        return found[0] if len(found) == 1 else Rows(*(torch.cat(tensors) for tensors in zip(*found, strict=True)))

    def _span(self, low: int, high: int) -> list[Rows]:
        if self.shuffle:
            return self._epoch_order().read(low, high)
        return [self._converted(self._split.read(low, high))]

    def _indices(self, low: int, high: int) -> Tensor:
        return self._epoch_order().indices(low, high) if self.shuffle else torch.arange(low, high)

    def _epoch_order(self) -> _Order:
        if self._order is None or self._order[0] != self.epoch:
            self._order = None  # its memory is free for the next
            self._order = (self.epoch, _Order(self._split, self._converted, self.seed, self.epoch))
        return self._order[1]

    def _converted(self, rows: Rows) -> Rows:
        features = rows.features.to(self._dtype)
        refuse_infinite(features)
        target = rows.target.to(self._dtype) if rows.target.is_floating_point() else rows.target
        return Rows(features, target, rows.weight.to(self._dtype))


class _Order:
    """The order of one epoch: buffers of blocks drawn at random, each with its rows in random order."""

    def __init__(self, split: BlockReader, convert: Callable[[Rows], Rows], seed: int, epoch: int) -> None:
        self._split = split
        self._convert = convert
        self._seeds = (seed, epoch)
        sizes = np.diff(split.starts)
        blocks = torch.randperm(len(sizes), generator=generator(*self._seeds)).numpy()
        self._buffers = [blocks[i : i + _BUFFER_BLOCKS] for i in range(0, len(blocks), _BUFFER_BLOCKS)]
        self._starts = np.concatenate([[0], np.cumsum([sizes[buffer].sum() for buffer in self._buffers])])
        self._kept: tuple[int, Rows] | None = None
        self._coming: tuple[int, Future[Rows]] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")

    def read(self, low: int, high: int) -> list[Rows]:
        """The rows that stand from `low` to `high`, those of each buffer by themselves."""
        return [
            Rows(*(tensor[first:last] for tensor in self._shuffled(buffer)))
            for buffer, first, last in self._places(low, high)
        ]

    def indices(self, low: int, high: int) -> Tensor:
        """Which rows of the split these are."""
        starts = self._split.starts
        found = []
        for buffer, first, last in self._places(low, high):
            members = torch.cat([torch.arange(starts[i], starts[i + 1]) for i in self._buffers[buffer]])
            found.append(members[self._permutation(buffer)[first:last]])
        return torch.cat(found)

    def _places(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """In which buffers they lie, and from where to where in each."""
        places: list[tuple[int, int, int]] = []
        buffer = min(int(np.searchsorted(self._starts, low, side="right")) - 1, len(self._buffers) - 1)
        while low < high or not places:
            start, stop = int(self._starts[buffer]), int(self._starts[buffer + 1])
            last = min(high, stop)
            places.append((buffer, low - start, last - start))
            low, buffer = last, buffer + 1
        return places

    def _permutation(self, buffer: int) -> Tensor:
        rows = int(self._starts[buffer + 1] - self._starts[buffer])
        # from 1: a zero at the end would change nothing in the seed of the blocks' order
        return torch.randperm(rows, generator=generator(*self._seeds, buffer + 1))

    def _shuffled(self, buffer: int) -> Rows:
        """A buffer's rows in random order; the next buffer is being read meanwhile."""
        if self._kept is None or self._kept[0] != buffer:
            self._kept = None  # its memory is free for what is read next
            coming, self._coming = self._coming, None
            rows = coming[1].result() if coming is not None and coming[0] == buffer else self._fill(buffer)
            self._kept = (buffer, rows)
            if buffer + 1 < len(self._buffers):
                self._coming = (buffer + 1, self._thread.submit(self._fill, buffer + 1))
        return self._kept[1]

    def _fill(self, buffer: int) -> Rows:
        starts, read = self._split.starts, self._split.read
        blocks = [self._convert(read(int(starts[i]), int(starts[i + 1]))) for i in self._buffers[buffer]]
        order = self._permutation(buffer)
        return Rows(*(torch.cat(tensors).index_select(0, order) for tensors in zip(*blocks, strict=True)))
