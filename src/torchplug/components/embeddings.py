"""Embeddings of numeric features, learned with the network."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FREQUENCIES = 16
"""Number of cosines per feature."""
LEARNED = 3
"""Number of mixtures of these cosines per feature."""


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
        """Number of features after embedding."""
        return len(self.bias) * (LEARNED + 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features and their mixtures of cosines, feature by feature."""
        angle = features.unsqueeze(-1) * (2.0 * math.pi * self.frequency) + self.phase
        mixed = torch.einsum("ndk,dkm->ndm", angle.cos(), self.weight) + self.bias
        return torch.cat([features.unsqueeze(-1), mixed], dim=-1).flatten(1)
