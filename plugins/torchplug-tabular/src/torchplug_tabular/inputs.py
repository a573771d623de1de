"""What stands between the features and the first layer: embeddings of categories and of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from torchplug import CategoryEmbedding, PeriodicEmbedding, PiecewiseLinearEmbedding, validate

NumberEmbedding = Literal["periodic", "piecewise_linear"]


class Inputs(nn.Module):
    r"""Embedded features.

        x ↦ [e(x_j) for numbers and small categories, E x_c for each large category c]

    Args:
        inputs: d, the number of features.
        categories: the features of each column of categories, the first and the one after the last.
        embedding: e, of numbers and of the 0/1 features of small categories; None: the identity.
        frequency_scale: σ > 0 of a periodic embedding.
        max_onehot: how many levels a category may have without being embedded, at least 0.
        category_size: the size of a category's vector, at least 1.

    Shape:
        features (n, d) → (n, `width`).
    """

    def __init__(
        self,
        inputs: int,
        categories: Sequence[tuple[int, int]],
        embedding: NumberEmbedding | None,
        frequency_scale: float,
        max_onehot: int = 9,
        category_size: int = 8,
    ) -> None:
        super().__init__()
        validate.at_least(0, max_onehot=max_onehot)
        validate.at_least(1, category_size=category_size)
        validate.positive(frequency_scale=frequency_scale)
        large = [(first, stop) for first, stop in categories if stop - first > max_onehot]
        self.categories = CategoryEmbedding(inputs, large, category_size) if large else None
        self.plain = inputs if self.categories is None else self.categories.plain
        self.numbers: nn.Module | None = None
        width = self.plain
        if self.plain and embedding is not None:
            validate.one_of("periodic", "piecewise_linear", embedding=embedding)
            self.numbers = (
                PeriodicEmbedding(self.plain, frequency_scale)
                if embedding == "periodic"
                else PiecewiseLinearEmbedding(self.plain)
            )
            width = self.numbers.width
        self.width = width + len(large) * category_size

    def forward(self, features: Tensor) -> Tensor:
        """Return the embedded features, those of numbers first."""
        if self.categories is not None:
            features = self.categories(features)
        if self.numbers is None:
            return features
        embedded: Tensor = self.numbers(features[:, : self.plain])
        if self.categories is None:
            return embedded
        return torch.cat([embedded, features[:, self.plain :]], dim=1)
