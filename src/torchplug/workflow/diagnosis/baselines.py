"""The best constant scores: what a model must beat."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from torchplug.components.contracts import Loss
from torchplug.data.tabular import TabularData
from torchplug.workflow.diagnosis.measures import blocks

_PASSES = 2
_HALVINGS = 80


class Constant(nn.Module):
    """Gives every row the same scores.

    Args:
        scores: (k,).
    """

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, features: Tensor) -> Tensor:
        """Scores (n, k) for features (n, d)."""
        return self.scores.expand(len(features), -1)


def best_constant(loss: Loss, data: TabularData, outputs: int) -> Constant:
    """The scores c minimizing (1/n) Σ wᵢ ℓ(c, yᵢ) over the training split: mean, median, class frequencies.

    Args:
        loss: smooth, or convex and separable in its scores, as `l1` and `hinge` are.
        data: prepared.
        outputs: k.
    """
    loss = copy.deepcopy(loss).cpu().double().requires_grad_(False)
    read = [(rows.target, rows.weight) for rows in blocks(data, "train")]
    target, weight = (torch.cat(parts) for parts in zip(*read, strict=True))

    def value(scores: Tensor) -> Tensor:
        losses: Tensor = loss(scores.expand(len(weight), -1), target)
        return (losses * weight).mean()

    scores = torch.zeros(outputs, dtype=torch.float64)
    numbers = target if target.is_floating_point() and not loss.task.has_classes else None
    if numbers is not None and numbers.shape[1] == outputs and not loss.task.predicts_rates:
        scores = numbers.mean(dim=0)
    if loss.smooth:
        return Constant(_by_derivatives(value, scores))
    ends = (-2.0, 2.0) if numbers is None else (float(numbers.min()), float(numbers.max()))
    return Constant(_by_comparison(value, scores, *ends))


def least_losses(loss: Loss, target: Tensor, outputs: int) -> Tensor:
    """The least loss of each row, min over z of ℓ(z, yᵢ), (n,): above 0 for smoothed labels and for probabilities.

    Args:
        loss: of classes; 0 where it is not smooth, as `hinge`.
        target: (n,) or (n, k).
        outputs: k.
    """
    if not loss.smooth:
        return torch.zeros(len(target), dtype=torch.float64)
    loss = copy.deepcopy(loss).cpu().double().requires_grad_(False)
    target = target.double() if target.is_floating_point() else target
    distinct, place = torch.unique(target, dim=0, return_inverse=True)
    scores = _by_derivatives(lambda z: loss(z, distinct).mean(), torch.zeros(len(distinct), outputs).double())
    least: Tensor = loss(scores, distinct)
    return least[place]


def _by_derivatives(value: Callable[[Tensor], Tensor], scores: Tensor) -> Tensor:
    found = scores.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [found], max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = value(found)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return found.detach()


@torch.no_grad()
def _by_comparison(value: Callable[[Tensor], Tensor], scores: Tensor, low: float, high: float) -> Tensor:
    """Ternary search along each score, for a convex function with kinks."""
    scores = scores.clone()

    def along(place: int, coordinate: float) -> float:
        scores[place] = coordinate
        return float(value(scores))

    for _ in range(_PASSES if len(scores) > 1 else 1):
        for place in range(len(scores)):
            a, b = low, high
            for _ in range(_HALVINGS):
                left, right = a + (b - a) / 3, b - (b - a) / 3
                a, b = (a, right) if along(place, left) <= along(place, right) else (left, b)
            scores[place] = (a + b) / 2
    return scores
