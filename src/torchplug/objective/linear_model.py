r"""A penalized linear model of any smooth loss, in double precision.

    W, b = argmin (1/n) Σᵢ wᵢ ℓ(W xᵢ + b, yᵢ) + λ ‖W‖²

Symbols: n rows of weights w of mean 1, d features, k scores.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torchplug.batch import Rows
from torchplug.components.contracts import Loss

_ITERATIONS = 100


class LinearModel(NamedTuple):
    """A fitted linear model, z = x Wᵀ + b.

    Args:
        weight: W (k, d) float64.
        bias: b (k,) float64.
        coefficient: λ, the strength of its l2 penalty.
    """

    weight: Tensor
    bias: Tensor
    coefficient: float

    def __call__(self, features: Tensor) -> Tensor:
        """Scores (n, k) of features (n, d)."""
        return torch.addmm(self.bias, features.double(), self.weight.mT)


def penalized_linear_model(rows: Rows, loss: Loss, outputs: int, coefficient: float) -> LinearModel:
    """Minimize by at most 100 iterations of L-BFGS from zero.

    Args:
        rows: all that train, in float64.
        loss: smooth, without parameters of its own that train, in float64.
        outputs: k.
        coefficient: λ.

    Reference: Liu and Nocedal (1989), doi:10.1007/BF01589116.
    """
    features, target, weight = rows
    point = features.new_zeros(outputs, features.shape[1] + 1).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [point], max_iter=_ITERATIONS, tolerance_grad=1e-7, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def value() -> Tensor:
        optimizer.zero_grad()
        scores = torch.addmm(point[:, -1], features, point[:, :-1].mT)
        objective: Tensor = (loss(scores, target) * weight).mean() + coefficient * point[:, :-1].square().sum()
        objective.backward()  # type: ignore[no-untyped-call]
        return objective

    with torch.enable_grad():
        optimizer.step(value)  # type: ignore[no-untyped-call]
    found = point.detach()
    return LinearModel(found[:, :-1], found[:, -1], coefficient)
