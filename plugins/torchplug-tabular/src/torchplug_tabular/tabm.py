"""TabM: an ensemble of perceptrons that share their weight matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from torchplug import validate
from torchplug_tabular.dropout import Dropout
from torchplug_tabular.inputs import Inputs, NumberEmbedding


class SharedLinear(nn.Module):
    r"""A linear map of m members that share its matrix.

        z_j = ((x_j ∘ r_j) W) ∘ s_j + b_j,    j = 1 … m

    r and s are 1 at the start, or r random signs; W and b ~ U(±1/√d).

    Args:
        members: m.
        inputs: d.
        outputs: the width of z.
        signs: whether r are random signs at the start, so that members differ.

    Shape:
        (m, n, d) or (n, d) → (m, n, outputs).

    Reference: Wen, Tran and Ba (2020), arXiv 2002.06715.
    """

    def __init__(self, members: int, inputs: int, outputs: int, signs: bool = False) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))
        start = torch.ones(members, 1, inputs)
        self.before = nn.Parameter(2.0 * start.bernoulli_(0.5) - 1.0 if signs else start)
        self.after = nn.Parameter(torch.ones(members, 1, outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return each member's outputs."""
        return torch.addcmul(self.bias, (features * self.before) @ self.weight, self.after)


class TabM(nn.Module):
    r"""TabM: m perceptrons that share their weight matrices, trained at once and averaged.

        h₀ = e(x),    h_ji = D(relu(((h_j,i−1 ∘ r_ji) Wᵢ) ∘ s_ji + b_ji)),    z_j = h_j,last V_j + c_j,    j = 1 … m

    In training the loss is the mean of the members' losses. In evaluation their scores are averaged: predictions of
    numbers, and logarithms of odds or probabilities of classes.

    Made for `--data.scale quantile`, the optimizer `adamw` with lr 0.002, and batches of 256.

    Args:
        inputs: d, the number of encoded features; taken from the data.
        outputs: k, the number of scores; taken from the loss and the target.
        categories: the features of each column of categories; taken from the data.
        members: m, at least 1.
        hidden: widths of the hidden layers, at least one, each at least 1.
        dropout: probability in [0, 1) that a hidden unit is dropped in training.
        embedding: None, `periodic` or `piecewise_linear`: how each number, and each 0/1 feature of a small category,
            becomes several.
        frequency_scale: σ > 0 of the initial frequencies of `periodic`, in periods per unit of a feature.
        max_onehot: number of features up to which a category is not embedded, at least 0.
        category_size: the size of an embedded category's vector, at least 1.

    Shape:
        features (n, d) → scores (m, n, k) in training, (n, k) in evaluation.

    Raises:
        ValueError: if a number of members, width, dropout, embedding, scale or size is out of range.

    Reference: Gorishniy, Kotelnikov and Babenko (2024), arXiv 2410.24210.
    Note: published predictions for classes are means of probabilities rather than of their logarithms.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        categories: Sequence[tuple[int, int]] = (),
        members: int = 32,
        hidden: list[int] = [512, 512],  # noqa: B006 - only read; configuration files hold lists
        dropout: float = 0.1,
        embedding: NumberEmbedding | None = "piecewise_linear",
        frequency_scale: float = 0.1,
        max_onehot: int = 9,
        category_size: int = 8,
    ) -> None:
        super().__init__()
        if not hidden:
            raise ValueError("hidden needs at least one width, got []")
        validate.at_least(1, members=members, **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
        validate.below_one(dropout=dropout)
        self.inputs = Inputs(
            inputs, categories, embedding, frequency_scale, max_onehot=max_onehot, category_size=category_size
        )
        layers: list[nn.Module] = []
        for number, (fan_in, units) in enumerate(pairwise([self.inputs.width, *hidden])):
            layers += [SharedLinear(members, fan_in, units, signs=number == 0), nn.ReLU(), Dropout(dropout)]
        self.layers = nn.Sequential(*layers)
        bound = 1.0 / math.sqrt(hidden[-1])
        self.weight = nn.Parameter(torch.empty(members, hidden[-1], outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """Return the members' scores in training, and their mean in evaluation."""
        scores = torch.baddbmm(self.bias, self.layers(self.inputs(features)), self.weight)
        return scores if self.training else scores.mean(0)
