"""A part of the training set that stands for the whole, for a start nearby at a fraction of the cost."""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_map

from torchplug.batch import Rows, TrainingSet

_STRETCH = 256
"""Rows are taken in stretches of this many: long enough to read fast, many enough to cover a sorted table."""


class Sample:
    """Evenly spaced stretches of a training set, itself a training set.

    Args:
        whole: what is sampled.
        samples: how many rows, at least 1; all there are if the whole has no more.
    """

    def __init__(self, whole: TrainingSet, samples: int) -> None:
        self.whole = whole
        self.samples = min(samples, whole.samples)
        self._skipped = whole.samples - self.samples
        self._gaps = max(1, -(-self.samples // _STRETCH) - 1)

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop` of the sample."""
        pieces = []
        while start < stop:
            stretch, offset = divmod(start, _STRETCH)
            length = min(_STRETCH - offset, stop - start)
            first = start + stretch * self._skipped // self._gaps
            pieces.append(self.whole.read(first, first + length))
            start += length
        if len(pieces) == 1:
            return pieces[0]
        return Rows(*(tree_map(lambda *leaves: torch.cat(leaves), *part) for part in zip(*pieces, strict=True)))
