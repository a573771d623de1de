"""Loaders: batches of each rank's rows, or the whole training split as one object."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import SequentialSampler

from torchplug.batch import Batch, BatchBlock, Groups, Rows, StepGroup, TrainingSet

_ALIGNMENT = 64
"""Alignment of torch's tensors, in bytes."""

_BLOCK_NUMBERS = 2**16
"""About how many numbers a block of small batches holds: what fits into a processor's cache."""


class Batches(ABC):
    r"""A loader that is its own distributed sampler; where the rows lie is left to subclasses.

    An epoch's order is cut into global batches of b·W rows, W the number of ranks. Of a full one, rank r takes rows
    r·b to (r+1)·b, so that W ranks see what one process sees that accumulates W batches of b. The last, smaller one
    is shared out as evenly as can be, lower ranks first; a rank may get no row, but never no batch: a rank that ran
    out would leave the others waiting. No row is repeated and none is left out.

    Args:
        size: n, how many rows.
        batch_size: b ≥ 1, rows per rank; "full": all rows in one global batch.
        shuffle: whether each epoch draws a new order; a full batch keeps the rows' order.
        seed: with the epoch, determines the order, equally on all ranks.
        rank: which of the W ranks this is.
        world: W.
        window: how many batches an optimizer step accumulates, asked at each window's start.
        limit: how many batches of an epoch will be asked for, asked at the epoch's start.
        consumed: how many batches of this epoch are done, where a trainer counts them; the loader itself only counts
            what it yielded. Asked when the position is saved.

    Attributes:
        through: a filter that the next iterator to begin takes: given `groups`, it yields the epoch's batches. It is
            used once, so that any other iteration, also after a fit that failed, only reads. None: every batch.
        aligned: whether each of several batches that were read at once starts in memory where a fresh tensor does:
            elsewhere a product may have other bits. False where that is not known before something was read.

    Shape:
        yields `Batch`; its `samples` are those of all ranks and of the whole window.

    Note: Lightning calls `sampler.set_epoch`, and saves and restores `state_dict`: an epoch that was broken off
        continues with exactly the batches that are left.
    """

    def __init__(
        self,
        size: int,
        *,
        batch_size: int | Literal["full"],
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        window: Callable[[], int] = lambda: 1,
        limit: Callable[[], float] = lambda: float("inf"),
        consumed: Callable[[], int] | None = None,
    ) -> None:
        self.size = size
        self.batch_size = max(1, -(-self.size // world)) if batch_size == "full" else batch_size
        self.shuffle = shuffle and batch_size != "full"
        self.seed = seed
        self.rank = rank
        self.world = world
        # Lightning reads both, for set_epoch; the type of the sampler says that an order never changes
        self.sampler: Any = self if self.shuffle else SequentialSampler(range(self.size))
        self.batch_sampler = None
        self.epoch = 0
        self._window = window
        self._limit = limit
        self._consumed = consumed
        self.through: Callable[[Groups], Iterator[Batch]] | None = None
        self._uniform = False  # whether every weight is known to be 1
        self.aligned = False
        self._batches_per_block = 1
        self._position = 0
        self._resume: tuple[int, int] | None = None

    def __len__(self) -> int:
        """The number of batches, the same on every rank."""
        return -(-self.size // (self.batch_size * self.world))

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next order."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        # a generator: Lightning makes iterators before it has set the epoch and the limit, and drops some unused
        through, self.through = self.through, None
        yield from (group.last() for group in self.groups()) if through is None else through(self.groups)

    def groups(self, size: Callable[[], int] = lambda: 1) -> Iterator[StepGroup]:
        """Yield what is left of the epoch in groups of batches.

        Args:
            size: how many batches the next group has, at least 1; asked when the group is asked for.
        """
        batches = int(min(len(self), self._limit()))
        position = self._start(batches)
        windows = _Windows(self._window, self._global_size, batches)
        while position < batches:
            count = min(size(), batches - position)
            yield _Group(self, position, count, windows)
            position += count

    def batch(self, position: int, windows: _Windows) -> Batch:
        """Read the batch at a position of the epoch."""
        samples, micro_batches = windows.at(position)
        rows = self._read([self.bounds(position)])
        self._position = position + 1
        return Batch(*rows, samples, micro_batches)

    def blocks(self, position: int, count: int, place: Callable[[Rows], Rows]) -> Iterator[BatchBlock]:
        """The `count` batches from a position of the epoch on, each an optimizer step, several of them read at once.

        Small batches are dear to read one by one, and large ones are best used while they are warm in a cache.

        Args:
            position: of the first.
            count: how many.
            place: puts rows where the network is.
        """
        stop = position + count
        while position < stop:
            several = range(position, min(stop, position + self._batches_per_block))
            bounds = self._bounds(several)
            rows = self._read(bounds)
            self.aligned = self._is_aligned(rows.features)
            if self.aligned:
                self._batches_per_block = max(1, _BLOCK_NUMBERS * len(several) // rows.features.numel())
            uniform = self._uniform or bool((rows.weight == 1).all())
            counts = [high - low for low, high in bounds]
            features, target, weight = place(rows)
            weights = _shared(weight, counts) if uniform else torch.split(weight, counts)
            sizes = [self.batch_size * self.world] * len(several)
            sizes[-1] = self._global_size(several[-1])
            yield BatchBlock(
                list(map(Batch, torch.split(features, counts), torch.split(target, counts), weights, sizes)), uniform
            )
            position = several.stop

    def _is_aligned(self, features: Tensor) -> bool:
        row_bytes = features.nbytes // max(1, len(features))
        return row_bytes > 0 and self.batch_size * row_bytes % _ALIGNMENT == 0

    def concatenated(self, position: int, count: int) -> Rows:
        """The rows of `count` batches from a position of the epoch on, one after the other; only where `aligned`."""
        return self._read(self._bounds(range(position, position + count)))

    @abstractmethod
    def _read(self, spans: Sequence[tuple[int, int]]) -> Rows:
        """The rows that stand in these spans of the epoch's order, one after the other."""

    @abstractmethod
    def _indices(self, low: int, high: int) -> Tensor:
        """Which rows these are (rows,)."""

    def rows(self, position: int) -> Tensor:
        """Which rows this rank's batch at a position of the epoch holds, as indices (rows,)."""
        return self._indices(*self.bounds(position))

    def bounds(self, position: int) -> tuple[int, int]:
        """Where in the epoch's order this rank's batch at a position begins and ends."""
        first, rows = position * self.batch_size * self.world, self._global_size(position)
        # of a full global batch the even share is b
        each, more = divmod(rows, self.world)
        low = first + self.rank * each + min(self.rank, more)
        return low, low + each + (self.rank < more)

    def _bounds(self, positions: range) -> list[tuple[int, int]]:
        """Rows of this rank at several positions: all but the last have a full batch."""
        rows, whole = self.batch_size, self.batch_size * self.world
        start = positions[0] * whole + self.rank * rows
        full = [(low, low + rows) for low in range(start, start + whole * (len(positions) - 1), whole)]
        return [*full, self.bounds(positions[-1])]

    @property
    def smallest_batch(self) -> int:
        """The fewest rows in any batch of any rank, empty ones aside."""
        last = self._global_size(len(self) - 1)
        return max(1, last // self.world)

    def state_dict(self) -> dict[str, int]:
        """The epoch, and how many of its batches are done."""
        return {"epoch": self.epoch, "position": self._position if self._consumed is None else self._consumed()}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continue from a saved position when that epoch is next iterated."""
        self._resume = (state["epoch"], state["position"])

    def _start(self, batches: int) -> int:
        resume, self._resume = self._resume, None
        if self._consumed is not None:
            # a trainer that was asked early for its loaders, as by schedules that plan, does not restore their state
            done = self._consumed()
            return done if done < batches else 0
        if resume is None or resume[0] != self.epoch or resume[1] >= batches:
            return 0
        return resume[1]

    def _global_size(self, position: int) -> int:
        whole = self.batch_size * self.world
        return min(whole, self.size - position * whole)


class _Windows:
    """Accumulation windows of an epoch, counted from its start; one that was broken off keeps what is left of it."""

    def __init__(self, length: Callable[[], int], size: Callable[[int], int], batches: int) -> None:
        self._length, self._size, self._batches = length, size, batches
        self._window = range(0)
        self._samples = 0

    def at(self, position: int) -> tuple[int, int]:
        """Samples and micro-batches of the window in which a batch lies; positions must not decrease."""
        if position >= self._window.stop:
            length = self._length()
            self._window = range(position, min((position // length + 1) * length, self._batches))
            self._samples = sum(map(self._size, self._window))
        return self._samples, len(self._window)


class _Group:
    """A `StepGroup` of a loader: `count` batches from a position of the epoch on."""

    def __init__(self, loader: Batches, position: int, count: int, windows: _Windows) -> None:
        self.leading = count - 1
        self._loader, self._position, self._windows = loader, position, windows

    @property
    def aligned(self) -> bool:
        return self._loader.aligned

    def blocks(self, start: int, count: int, place: Callable[[Rows], Rows]) -> Iterator[BatchBlock]:
        return self._loader.blocks(self._position + start, count, place)

    def concatenated(self, start: int, count: int) -> Rows:
        return self._loader.concatenated(self._position + start, count)

    def last(self) -> Batch:
        return self._loader.batch(self._position + self.leading, self._windows)


class Loader(Batches):
    """Batches from tensors in memory, indexed a batch at a time.

    Args:
        features: (n, d).
        target: (n, …).
        weight: (n,), or None where all are 1, in the precision of the features.
        options: what `Batches` takes.
    """

    def __init__(self, features: Tensor, target: Tensor, weight: Tensor | None, **options: Any) -> None:
        super().__init__(len(features), **options)
        self.aligned = self._is_aligned(features)
        self._features = features
        self._target = target
        self._weight = weight
        # those of as many rows as were ever read at once
        self._ones = (features if weight is None else weight).new_ones(0)
        if weight is not None and bool((weight == 1).all()):
            self._weight = None
        self._uniform = self._weight is None
        self._order: tuple[int, Tensor] | None = None

    def table(self) -> Rows:
        """All rows as they lie in memory."""
        return Rows(self._features, self._target, self._first_ones(self.size) if self._weight is None else self._weight)

    @property
    def is_uniform(self) -> bool:
        """Whether every weight is 1."""
        return self._uniform

    def order(self, epoch: int) -> Tensor:
        """Which row of the table stands where in an epoch's order, (n,)."""
        self.epoch = epoch
        return self._rows(0, self.size)

    def _read(self, spans: Sequence[tuple[int, int]]) -> Rows:
        spans = merged(spans)
        if len(spans) == 1 and not self.shuffle:
            low, high = spans[0]
            weight = self._first_ones(high - low) if self._weight is None else self._weight[low:high]
            return Rows(self._features[low:high], self._target[low:high], weight)
        found = [self._rows(low, high) for low, high in spans]
        rows = found[0] if len(found) == 1 else torch.cat(found)
        weight = self._first_ones(len(rows)) if self._weight is None else self._weight.index_select(0, rows)
        return Rows(self._features.index_select(0, rows), self._target.index_select(0, rows), weight)

    def _first_ones(self, count: int) -> Tensor:
        if len(self._ones) < count:
            self._ones = self._ones.new_ones(count)
        return self._ones[:count]

    def _indices(self, low: int, high: int) -> Tensor:
        return self._rows(low, high).long()

    def _rows(self, low: int, high: int) -> Tensor:
        """Which rows these are, in whole numbers as small as may be."""
        if not self.shuffle:
            return torch.arange(low, high)
        if self._order is None or self._order[0] != self.epoch:
            self._order = None  # its memory is free for the next
            small = torch.int32 if self.size < 2**31 else torch.int64
            order = torch.randperm(self.size, generator=generator(self.seed, self.epoch), dtype=small)
            self._order = (self.epoch, order)
        return self._order[1][low:high]


def _shared(ones: Tensor, counts: Sequence[int]) -> list[Tensor]:
    """So many ones for each count; equal counts share them."""
    first = {count: ones[:count] for count in set(counts)}
    return [first[count] for count in counts]


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The spans, with adjacent ones joined."""
    result = [spans[0]]
    for low, high in spans[1:]:
        if low == result[-1][1]:
            result[-1] = (result[-1][0], high)
        else:
            result.append((low, high))
    return result


class FullBatchLoader:
    """Loader with one item per epoch: the training split as an object that is read, not iterated over.

    Args:
        training_set: the split; it must contain nothing that Lightning would traverse or move.
    """

    def __init__(self, training_set: TrainingSet) -> None:
        self.training_set = training_set
        # by its type, Lightning draws nothing
        self.sampler = SequentialSampler(range(1))
        self.batch_sampler = None

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[TrainingSet]:
        yield self.training_set


def generator(*seeds: int) -> torch.Generator:
    """A generator seeded by several numbers together."""
    # a hash of them: with seed + epoch, the second epoch of one seed would be the first of the next
    mixed = np.random.SeedSequence(seeds).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))
