"""ResNet: a multilayer perceptron of blocks with skip connections."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from torchplug import validate
from torchplug_tabular.dropout import Dropout
from torchplug_tabular.inputs import Inputs, NumberEmbedding


class ResNet(nn.Module):
    r"""Residual network for tables.

        h₀ = e(x) W₀ + b₀,    hᵢ = hᵢ₋₁ + D(D(relu(N(hᵢ₋₁) Aᵢ + aᵢ)) Bᵢ + cᵢ),    z = relu(N(h_last)) W + b

    N is layer normalization, D dropout.

    Args:
        inputs: d, the number of encoded features; taken from the data.
        outputs: k, the number of scores; taken from the loss and the target.
        categories: the features of each column of categories; taken from the data.
        blocks: number of blocks, at least 1.
        width: size of h, at least 1.
        hidden_factor: width of a block's inner layer in units of `width`, positive.
        dropout: probability in [0, 1) that a unit of a block's inner layer is dropped in training.
        residual_dropout: probability in [0, 1) that a unit of a block's output is dropped in training.
        embedding: None, `periodic` or `piecewise_linear`: how each number, and each 0/1 feature of a small category,
            becomes several.
        frequency_scale: σ > 0 of the initial frequencies of `periodic`, in periods per unit of a feature.
        max_onehot: number of features up to which a category is not embedded, at least 0.
        category_size: the size of an embedded category's vector, at least 1.

    Shape:
        features (n, d) → scores (n, k).

    Raises:
        ValueError: if a number of blocks, width, dropout, embedding, scale or size is out of range.

    Reference: Gorishniy, Rubachev, Khrulkov and Babenko (2021), arXiv 2106.11959, section 3.2.
    Note: layer normalization in place of the published batch normalization, so that rows do not affect each other.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        categories: Sequence[tuple[int, int]] = (),
        blocks: int = 3,
        width: int = 192,
        hidden_factor: float = 2.0,
        dropout: float = 0.15,
        residual_dropout: float = 0.0,
        embedding: NumberEmbedding | None = None,
        frequency_scale: float = 0.1,
        max_onehot: int = 9,
        category_size: int = 8,
    ) -> None:
        super().__init__()
        validate.at_least(1, blocks=blocks, width=width)
        validate.positive(hidden_factor=hidden_factor)
        validate.below_one(dropout=dropout, residual_dropout=residual_dropout)
        self.inputs = Inputs(
            inputs, categories, embedding, frequency_scale, max_onehot=max_onehot, category_size=category_size
        )
        self.first = nn.Linear(self.inputs.width, width)
        inner = max(1, round(hidden_factor * width))
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, inner),
                nn.ReLU(),
                Dropout(dropout),
                nn.Linear(inner, width),
                Dropout(residual_dropout),
            )
            for _ in range(blocks)
        )
        self.last = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return scores (n, k) for features (n, d)."""
        state = self.first(self.inputs(features))
        for block in self.blocks:
            state = state + block(state)
        scores: Tensor = self.last(state)
        return scores
