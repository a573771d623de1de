"""Tensors as a training set, without a data module."""

from __future__ import annotations

from torch import Tensor

from torchplug.batch import Rows


class InMemory:
    """Rows of equal weight.

    Args:
        features: (n, d).
        target: (n, k).
    """

    def __init__(self, features: Tensor, target: Tensor) -> None:
        self.features = features
        self.target = target
        self.weight = features.new_ones(len(features))
        self.samples = len(features)

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`."""
        return Rows(self.features[start:stop], self.target[start:stop], self.weight[start:stop])
