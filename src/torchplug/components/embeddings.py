"""Embeddings of features, learned with the network: numbers become several, categories vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from torchplug.components.validate import at_least, one_of, positive

NumberEmbedding = Literal["periodic", "piecewise_linear"]
"""Names of the embeddings of numbers."""


class PeriodicEmbedding(nn.Module):
    r"""Periodic embedding: each feature x_j and a few mixtures of cosines of it.

        e_j(x) = [x_j,  V_jᵀ cos(2π f_j x_j + φ_j) + c_j],    f_j, φ_j ∈ ℝ^K,   V_j ∈ ℝ^(K × m),   c_j ∈ ℝ^m

    Frequencies, phases and weights are learned. Networks of linear maps and activations are slow to learn targets that
    change fast along one feature; cosines of higher frequency make such changes large. Initially f ~ N(0, σ²),
    φ ~ U(−π, π), V and c ~ U(±1/√K).

    Args:
        inputs: d, the number of features.
        scale: σ > 0, the standard deviation of the initial frequencies, in periods per unit of a feature: 0.1 for
            standardized features with smooth effects, more for oscillating ones.

    Shape:
        features (n, d) → (n, d (m + 1)), with K = 16 and m = 3.

    Raises:
        ValueError: if scale is not positive.

    Reference: Gorishniy, Rubachev and Babenko (2022), arXiv 2203.05556; Holzmüller, Grinsztajn and Steinwart (2024),
    arXiv 2407.04491, whose variant with phases, a linear map and the number itself this is.
    """

    frequencies = 16
    mixtures = 3

    def __init__(self, inputs: int, scale: float = 0.1) -> None:
        super().__init__()
        positive(frequency_scale=scale)
        self.width = inputs * (self.mixtures + 1)
        self.frequency = nn.Parameter(torch.empty(inputs, self.frequencies))
        self.phase = nn.Parameter(torch.empty(inputs, self.frequencies))
        self.weight = nn.Parameter(torch.empty(inputs, self.frequencies, self.mixtures))
        self.bias = nn.Parameter(torch.empty(inputs, self.mixtures))
        bound = 1.0 / math.sqrt(self.frequencies)
        nn.init.normal_(self.frequency, std=scale)
        nn.init.uniform_(self.phase, -math.pi, math.pi)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features and their mixtures of cosines, feature by feature."""
        # (d, K, n): products of matrices whose rows are long and contiguous are fast; a sine's derivative takes one
        # function, not two
        phase, frequency = self.phase + 0.5 * math.pi, 2.0 * math.pi * self.frequency
        columns = features.t().contiguous().unsqueeze(1)
        cosines = torch.baddbmm(phase.unsqueeze(2), frequency.unsqueeze(2), columns).sin()
        mixed = torch.baddbmm(self.bias.unsqueeze(2), self.weight.transpose(1, 2), cosines)
        return torch.cat([features.unsqueeze(2), mixed.permute(2, 0, 1)], dim=2).flatten(1)


class PiecewiseLinearEmbedding(nn.Module):
    r"""Piecewise-linear embedding: each feature becomes a vector that is piecewise linear in it.

        e_j(x) = x_j u_j + c_j + Σ_t clip((x_j − b_{t−1}) / (b_t − b_{t−1}), 0, 1) V_jt

    The knots b_t lie from −2.5 to 2.5, and a standard normal number falls into each bin equally often; so do training
    rows if features are scaled to normal quantiles. Beyond the outer knots e_j continues along x_j u_j alone. u, V
    and c are learned; V is zero at the start, so that the network starts linear in the features.

    Args:
        inputs: d, the number of features.
        bins: T ≥ 2, the number of bins per feature.
        size: m ≥ 1, the size of each feature's vector.

    Shape:
        features (n, d) → (n, d m).

    Raises:
        ValueError: if bins or size is too small.

    Reference: Gorishniy, Rubachev and Babenko (2022), arXiv 2203.05556, section 3.1; the form with a linear part is
    that of Gorishniy, Kotelnikov and Babenko (2024), arXiv 2410.24210.
    """

    outermost = 2.5
    knots: Tensor

    def __init__(self, inputs: int, bins: int = 48, size: int = 16) -> None:
        super().__init__()
        at_least(2, bins=bins)
        at_least(1, size=size)
        self.width = inputs * size
        least = torch.special.ndtr(torch.tensor(-self.outermost, dtype=torch.float64)).item()
        knots = torch.special.ndtri(torch.linspace(least, 1.0 - least, bins + 1, dtype=torch.float64))
        self.register_buffer("knots", knots.to(torch.get_default_dtype()), persistent=False)
        self.slope = nn.Parameter(torch.empty(inputs, size))
        self.weight = nn.Parameter(torch.zeros(inputs, bins, size))
        self.bias = nn.Parameter(torch.empty(inputs, size))
        bound = 1.0 / math.sqrt(size)
        nn.init.uniform_(self.slope, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, features: Tensor) -> Tensor:
        """Return the vectors, feature by feature."""
        x = features.unsqueeze(-1)
        low, high = self.knots[:-1], self.knots[1:]
        position = ((x - low) / (high - low)).clamp(0.0, 1.0)
        return (x * self.slope + self.bias + torch.einsum("ndt,dtm->ndm", position, self.weight)).flatten(1)


class CategoryEmbedding(nn.Module):
    r"""Embedding of categories: a learned vector for each level of a column with many levels.

        e_c(x) = Σ_l x_l E_l,    x_l the level's feature, E_l ∈ ℝ^m

    The levels' features x_l are 0 and 1 but for their scaling, so that this is a vector for each level. All other
    features are passed on, first and in their order. Initially E ~ N(0, 1/m).

    Args:
        inputs: d, the number of features.
        categories: for each column to embed, the first of its features and the one after the last.
        size: m ≥ 1, the size of a column's vector.

    Shape:
        features (n, d) → (n, d − Σ levels + m · columns).

    Raises:
        ValueError: if size is below 1.

    Reference: Guo and Berkhahn (2016), arXiv 1604.06737.
    """

    others: Tensor

    def __init__(self, inputs: int, categories: Sequence[tuple[int, int]], size: int = 8) -> None:
        super().__init__()
        at_least(1, size=size)
        self.categories = tuple(categories)
        embedded = {j for first, stop in self.categories for j in range(first, stop)}
        others = [j for j in range(inputs) if j not in embedded]
        self.register_buffer("others", torch.tensor(others, dtype=torch.long), persistent=False)
        self.plain = len(others)
        self.width = len(others) + size * len(self.categories)
        self.tables = nn.ParameterList(
            torch.randn(stop - first, size) / math.sqrt(size) for first, stop in self.categories
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the other features, then the vectors."""
        pairs = zip(self.categories, self.tables, strict=True)
        vectors = [features[:, first:stop] @ table for (first, stop), table in pairs]
        return torch.cat([features.index_select(1, self.others), *vectors], dim=1)


def number_embedding(
    name: NumberEmbedding, inputs: int, scale: float = 0.1
) -> PeriodicEmbedding | PiecewiseLinearEmbedding:
    """Return an embedding of numbers by name; its `width` is the number of features that it gives.

    Args:
        name: which.
        inputs: d, the number of features.
        scale: of the initial frequencies of a periodic one.

    Raises:
        ValueError: for another name, or a parameter out of range.
    """
    positive(frequency_scale=scale)
    one_of(*get_args(NumberEmbedding), embedding=name)
    return PeriodicEmbedding(inputs, scale) if name == "periodic" else PiecewiseLinearEmbedding(inputs)
