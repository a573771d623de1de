"""Layers whose learning rates are part of the parametrization.

A parameter p with the learning rate f·α is trained as q with the rate α, where p = f·q: Adam's steps do not depend on
the size of gradients, so that q moves by about α, and p by about f·α.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Scaling(nn.Module):
    r"""A learned factor for each feature.

        y_j = s_j x_j,    s = f·q,    s = 1 at the start

    Args:
        inputs: d, the number of features.
        rate: f > 0, by which the factors learn faster than other parameters.

    Shape:
        features (n, d) → (n, d).

    Reference: Holzmüller, Grinsztajn and Steinwart (2024), arXiv 2407.04491: a soft choice of features.
    """

    def __init__(self, inputs: int, rate: float = 6.0) -> None:
        super().__init__()
        self.rate = rate
        self.weight = nn.Parameter(torch.full((inputs,), 1.0 / rate))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features times their factors."""
        return features * (self.rate * self.weight)


class NTKLinear(nn.Module):
    r"""Linear map in the neural tangent parametrization.

        z = x W / √d + f b

    W and b are of order 1 whatever the width, so that one learning rate suits all widths.

    Args:
        inputs: d.
        outputs: m.
        rate: f > 0, the factor of the bias's learning rate.

    Shape:
        (n, d) → (n, m).

    Reference: Jacot, Gabriel and Hongler (2018), arXiv 1806.07572.
    """

    def __init__(self, inputs: int, outputs: int, rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.factor = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return x W / √d + f b."""
        return torch.addmm(self.bias, features, self.weight, beta=self.rate, alpha=self.factor)

    @torch.no_grad()
    def initialize(self, features: Tensor, points: int = 5) -> Tensor:
        r"""Draw the parameters for a sample of features, and return the outputs for it.

        Each column of W is N(0, 1), then scaled so that its outputs have standard deviation 1; the bias moves the
        zero of each output to a random point among the outputs, a convex combination of a few of them.

        Args:
            features: (n, d).
            points: the number of outputs that are combined.

        Reference: Steinwart (2019), arXiv 1903.11482, "he+5"; Holzmüller et al. (2024).
        """
        outputs = self.factor * (features @ self.weight)
        spread = outputs.std(0, correction=0).clamp_min(1e-6)
        self.weight.div_(spread)
        outputs /= spread
        rows = torch.randint(len(features), (points, outputs.shape[1]))
        shares = torch.empty(points, outputs.shape[1]).exponential_()
        self.bias.copy_(-(outputs.gather(0, rows) * shares / shares.sum(0)).sum(0) / self.rate)
        return outputs + self.rate * self.bias


class ParametricActivation(nn.Module):
    r"""An activation between the identity and a given one, learned for each unit.

        y_j = u_j + a_j (σ(u_j) − u_j),    a = f·q,    a = 1 at the start

    Args:
        units: m.
        activation: σ, elementwise.
        rate: f > 0, the factor of the learning rate of a.

    Shape:
        (n, m) → (n, m).

    Reference: Holzmüller, Grinsztajn and Steinwart (2024), arXiv 2407.04491.
    """

    def __init__(self, units: int, activation: Callable[[Tensor], Tensor], rate: float = 0.1) -> None:
        super().__init__()
        self.rate = rate
        self.activation = activation
        self.weight = nn.Parameter(torch.full((units,), 1.0 / rate))

    def forward(self, units: Tensor) -> Tensor:
        """Return the mixture of the units and their activations."""
        return torch.lerp(units, self.activation(units), self.rate * self.weight)
