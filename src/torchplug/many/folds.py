"""Batches of several folds at once: each fold has its own table, order and last, smaller batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from torchplug.data.loaders import Loader

_GATHERED_NUMBERS = 2**18
"""About how many numbers are gathered at once: what stays in a processor's cache."""


class FoldBatch(NamedTuple):
    """One optimizer step's rows of every fold; a fold with fewer is padded with rows of weight 0.

    Args:
        features: (F, b, d).
        target: (F, b, k) floats or (F, b) class indices.
        weight: (F, b); None where all weights are 1.
        samples: |B| of each fold, (F,); 0 for a fold whose epoch is over.
    """

    features: Tensor
    target: Tensor
    weight: Tensor | None
    samples: tuple[int, ...]


class FoldTables:
    """The encoded tables of F folds as one, and the batches of an epoch as each fold's own fit would draw them.

    Args:
        loaders: one per fold, of one precision.
        device: where batches are.
        with_ones: whether a feature of ones follows the others, for a map whose bias is a column of its weight.

    Attributes:
        sizes: n of each fold, (F,).
        steps: batches of an epoch of each fold.
    """

    def __init__(self, loaders: Sequence[Loader], device: torch.device, with_ones: bool = False) -> None:
        tables = [loader.table() for loader in loaders]
        self._loaders = list(loaders)
        self.sizes = [loader.size for loader in loaders]
        self.steps = [len(loader) for loader in loaders]
        self._rows = max(loader.batch_size for loader in loaders)
        self._starts = [sum(self.sizes[:fold]) for fold in range(len(loaders))]
        features = _joined([table.features for table in tables])
        self._features = (_with_ones(features) if with_ones else features).to(device)
        self._target = _joined([table.target for table in tables]).to(device)
        uniform = all(loader.is_uniform for loader in loaders)
        self._weight = None if uniform else _joined([table.weight for table in tables]).to(device)

    def epoch(self, number: int, first: int = 0) -> Iterator[FoldBatch]:
        """The batches of an epoch from the `first` on, as many as the longest fold has in all."""
        rows, steps, device = self._rows, max(self.steps), self._features.device
        order = torch.empty(len(self.sizes), steps * rows, dtype=torch.int64)
        for fold, (loader, size, start) in enumerate(zip(self._loaders, self.sizes, self._starts, strict=True)):
            order[fold, :size] = loader.order(number) + start
            order[fold, size:] = start
        order = order.to(device)
        together = max(1, _GATHERED_NUMBERS // (len(self.sizes) * rows * self._features.shape[1]))
        for start in range(first - first % together, steps, together):  # where they start decides their alignment
            index = order[:, start * rows : (start + together) * rows]
            gathered = _gathered(index, self._features, self._target, self._weight)
            for step in range(max(first, start), min(steps, start + together)):
                counts = tuple(min(rows, max(0, size - step * rows)) for size in self.sizes)
                yield _batch(gathered, (step - start) * rows, counts)


def _batch(gathered: tuple[Tensor, Tensor, Tensor | None], start: int, counts: tuple[int, ...]) -> FoldBatch:
    most = max(counts)
    features, target, weight = (each if each is None else each[:, start : start + most] for each in gathered)
    assert features is not None
    assert target is not None
    if min(counts) < most:
        lengths = torch.tensor(counts, device=features.device).unsqueeze(1)
        there = (torch.arange(most, device=features.device) < lengths).to(features.dtype)
        weight = there if weight is None else weight * there
    return FoldBatch(features, target, weight, counts)


def _gathered(
    index: Tensor, features: Tensor, target: Tensor, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    def rows(table: Tensor) -> Tensor:
        return table.index_select(0, index.reshape(-1)).view(*index.shape, *table.shape[1:])

    return rows(features), rows(target), None if weight is None else rows(weight)


def _joined(tables: Sequence[Tensor]) -> Tensor:
    return tables[0] if len(tables) == 1 else torch.cat(list(tables))


def _with_ones(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)
