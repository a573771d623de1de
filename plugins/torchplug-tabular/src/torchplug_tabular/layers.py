"""Layers of RealMLP: learned scaling, linear maps in the NTK parametrization, learned activations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import mish

from torchplug_tabular.mish import mixed_mish

_ROUNDING = 1e-6
"""Outputs whose standard deviation is smaller, relative to the largest of them, count as equal."""


class Scaling(nn.Module):
    r"""A learned factor for each feature, which a large learning rate makes a soft choice of features.

        y_j = s_j x_j,    s = 1 at the start

    Args:
        inputs: d, the number of features.

    Shape:
        features (n, d) → (n, d).

    Reference: Holzmüller, Grinsztajn and Steinwart (2024), arXiv 2407.04491.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(inputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return the features times their factors."""
        return features * self.scale


class NTKLinear(nn.Module):
    r"""Linear map in the neural tangent parametrization.

        z = x W / √d + b

    W is of order 1 whatever the width, so that one learning rate suits all widths. At the start W ~ N(0, 1), b = 0.

    Args:
        inputs: d.
        outputs: m.

    Shape:
        (n, d) → (n, m).

    Reference: Jacot, Gabriel and Hongler (2018), arXiv 1806.07572.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.factor = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """Return x W / √d + b."""
        return torch.addmm(self.bias, features, self.weight, alpha=self.factor)

    @torch.no_grad()
    def initialize(self, features: Tensor, points: int = 5) -> Tensor:
        r"""Scale the weights and draw the biases for some features, and return the outputs for them.

        Each column of W is scaled so that its outputs have standard deviation 1, if they differ at all; the bias moves
        the zero of each output to a random point among the outputs, a convex combination of a few of them.

        Args:
            features: (n, d), n ≥ 1.
            points: the number of outputs that are combined.

        Reference: Steinwart (2019), arXiv 1903.11482, "he+5"; Holzmüller et al. (2024).
        """
        outputs = self.factor * (features @ self.weight)
        spread = outputs.std(0, correction=0)
        spread[spread <= _ROUNDING * outputs.abs().amax(0)] = 1.0
        self.weight.div_(spread)
        outputs /= spread
        rows = torch.randint(len(features), (points, outputs.shape[1]))
        shares = torch.empty(points, outputs.shape[1]).exponential_()
        self.bias.copy_(-(outputs.gather(0, rows) * shares / shares.sum(0)).sum(0))
        return outputs + self.bias


class ParametricActivation(nn.Module):
    r"""An activation between the identity and a given one, learned for each unit.

        y_j = u_j + a_j (σ(u_j) − u_j),    a = 1 at the start

    Args:
        units: m.
        activation: σ, elementwise.

    Shape:
        (n, m) → (n, m).

    Reference: Holzmüller, Grinsztajn and Steinwart (2024), arXiv 2407.04491.
    """

    def __init__(self, units: int, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.ones(units))
        self.activation = activation

    def forward(self, units: Tensor) -> Tensor:
        """Return the mixture of the units and their activations."""
        if self.activation is mish:
            return mixed_mish(units, self.mix)
        return torch.lerp(units, self.activation(units), self.mix.to(units.dtype))  # units are rounded by autocast
