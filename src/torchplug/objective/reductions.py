"""Sums over the training set that do not depend on how many ranks there are.

The rows are cut into runs, the leaves of a binary tree that n alone determines. A rank sums the subtrees
that lie in its share of the runs, and all ranks finish the tree in the same order: one process and
several then give the same bits, where an all-reduce would add up in another order. (A method that
turns at a saddle by the last bit would otherwise end in another minimum.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

_RUNS = 64
"""The most runs: enough to share out evenly, few enough that what they keep does not count."""

Interval = tuple[int, int]


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together.

    Args:
        rank: from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def current(cls) -> Ranks:
        """As torch.distributed has it; alone where there is no process group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's tensor, on every rank: equal computations may differ by a bit between processors."""
        if self.world > 1:
            tensor = tensor.contiguous().clone()
            dist.broadcast(tensor, src=0)
        return tensor

    def all_reduce_sum(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all ranks, in the order of the backend."""
        if self.world > 1:
            dist.all_reduce(tensor)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their means over all ranks, as DDP does: divided first, then summed."""
        flat = tensors[0] if len(tensors) == 1 else torch.cat([tensor.reshape(-1) for tensor in tensors])
        self.all_reduce_sum(flat.mul_(1.0 / self.world))
        if len(tensors) > 1:
            pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
            for tensor, piece in zip(tensors, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor; all have the same shape."""
        if self.world == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(gathered, tensor.contiguous())
        return gathered


def cut(samples: int, unit: int) -> list[Interval]:
    """Cut rows 0 to `samples` into runs of whole multiples of `unit` rows, the last perhaps shorter."""
    units = -(-samples // unit)
    length = -(-units // _RUNS) * unit
    return [(start, min(start + length, samples)) for start in range(0, samples, length)]


def tree_sum(
    runs: Sequence[Interval],
    leaf: Callable[[int, int], Tensor],
    zero: Tensor,
    ranks: Ranks,
    combine: Callable[[Tensor, Tensor], Tensor] = torch.add,
) -> Tensor:
    """Combine what `leaf(start, stop)` gives for each run, in a fixed binary tree, over all ranks.

    Args:
        runs: as `cut` gives them, at least one.
        leaf: computes a run; all results have the shape of `zero`.
        zero: what a rank without runs sends; it enters no sum.
        ranks: who takes part; each rank computes its share of the runs alone.
        combine: associative up to rounding.
    """
    count = len(runs)

    def local(low: int, high: int) -> Tensor:
        if high - low == 1:
            return leaf(*runs[low])
        middle = (low + high) // 2
        return combine(local(low, middle), local(middle, high))

    if ranks.world == 1:
        return local(0, count)
    shares = [_subtrees(0, count, *_share(count, rank, ranks.world)) for rank in range(ranks.world)]
    mine = [local(*node) for node in shares[ranks.rank]]
    most = max(len(nodes) for nodes in shares)
    sent = torch.stack(mine + [zero] * (most - len(mine)))
    received = ranks.gather(sent)
    known = {node: received[rank][i] for rank, nodes in enumerate(shares) for i, node in enumerate(nodes)}

    def finish(low: int, high: int) -> Tensor:
        if (low, high) in known:
            return known[low, high]
        middle = (low + high) // 2
        return combine(finish(low, middle), finish(middle, high))

    return finish(0, count)


def _share(count: int, rank: int, world: int) -> Interval:
    return rank * count // world, (rank + 1) * count // world


def _subtrees(low: int, high: int, first: int, last: int) -> list[Interval]:
    """The largest subtrees of the tree over `low` to `high` that lie within `first` to `last`."""
    if high <= first or low >= last:
        return []
    if first <= low and high <= last:
        return [(low, high)]
    middle = (low + high) // 2
    return _subtrees(low, middle, first, last) + _subtrees(middle, high, first, last)
