"""Embeddings of numbers: several features, learned with the network, in the place of each number."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 16
"""Cosines of each number."""
LEARNED = 3
"""Features that are made of these cosines, beside the number itself."""


class PeriodicEmbedding(nn.Module):
    r"""Each number x_j beside a few mixtures of cosines of it, with learned frequencies, phases and weights.

        e_j(x) = [x_j,  V_jᵀ cos(2π f_j x_j + φ_j) + c_j],    f_j, φ_j ∈ ℝ^K,   V_j ∈ ℝ^(K × m),   c_j ∈ ℝ^m

    A network of linear maps and activations learns slowly what changes fast along one feature; cosines of higher
    frequency make such changes large. At the start f ~ N(0, σ²), φ ~ U(−π, π), V and c ~ U(±1/√K).

    Args:
        inputs: d, the number of features.
        scale: σ > 0, the standard deviation of the first frequencies, in periods per unit of a feature: 0.1 for
            standardized features that act smoothly, more for those that oscillate.

    Shape:
        features (n, d) → (n, d (m + 1)), with K = 16 and m = 3.

    Reference: Gorishniy, Rubachev and Babenko (2022), arXiv 2203.05556; Holzmüller, Grinsztajn and Steinwart (2024),
    arXiv 2407.04491, whose variant with phases, a linear map and the number itself this is.
    """

    def __init__(self, inputs: int, scale: float = 0.1) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.empty(inputs, FREQUENCIES))
        self.phase = nn.Parameter(torch.empty(inputs, FREQUENCIES))
        self.weight = nn.Parameter(torch.empty(inputs, FREQUENCIES, LEARNED))
        self.bias = nn.Parameter(torch.empty(inputs, LEARNED))
        bound = 1.0 / math.sqrt(FREQUENCIES)
        nn.init.normal_(self.frequency, std=scale)
        nn.init.uniform_(self.phase, -math.pi, math.pi)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    @property
    def width(self) -> int:
        """The number of features after embedding."""
        return len(self.bias) * (LEARNED + 1)

    def forward(self, features: Tensor) -> Tensor:
        """The features and their mixtures of cosines, feature by feature."""
        angle = features.unsqueeze(-1) * (2.0 * math.pi * self.frequency) + self.phase
        mixed = torch.einsum("ndk,dkm->ndm", angle.cos(), self.weight) + self.bias
        return torch.cat([features.unsqueeze(-1), mixed], dim=-1).flatten(1)
