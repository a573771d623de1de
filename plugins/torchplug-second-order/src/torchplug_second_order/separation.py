"""Separated classes and groups without counts: a likelihood without penalty then has no maximum."""

from __future__ import annotations

import torch
from torch import Tensor

from torchplug import Objective, Outcome
from torchplug_second_order.linear_solvers import EPSILON
from torchplug_second_order.sizes import can_examine

_RANGE = 8.0
"""Of the scores: smaller ones have no row that counts as predicted with certainty."""
_CURVED = 1e-2
"""Times 1/n, of the curvature at zero: along a direction with less, no row is uncertain."""
_ROUNDING = 1e-7
"""Of the largest change of a score along a direction: less counts as none."""
_LEAST_TOTAL = 1e-3
"""Of a row's loss at the start: one row on the wrong side alone has a loss of log 2."""


def separation(objective: Objective, value: float, initial: float) -> Outcome | None:
    r"""An outcome where the classes are perfectly separated, else None.

        Σ wᵢ ℓᵢ < 10⁻³ min(1, F₀)    without a penalty

    Every row is then on its class's side: a row that is not has a loss of at least log 2. Multiplying the scores by
    t > 1 decreases F further, down to 0 as t → ∞, so that no coefficients are a minimum.

    Args:
        objective: F, of reduction `mean` or `sum`.
        value: F at the current parameters.
        initial: F₀, the mean loss at the start.

    Reference: Albert and Anderson (1984), doi:10.1093/biomet/71.1.1.
    """
    if objective.loss.task.probabilities is None or objective.penalties:
        return None
    if value / objective.scale >= _LEAST_TOTAL * min(1.0, initial / (objective.scale * objective.samples)):
        return None
    return Outcome(
        "stalled",
        "the classes are perfectly separated: the loss has no minimum, as it falls to zero while coefficients grow",
        "add a penalty l2",
    )


def quasi_separation(objective: Objective) -> Outcome | None:
    r"""An outcome where some rows are perfectly separated from the others of their class, else None.

        ∂ℓᵢ/∂zᵢ · tᵢ ≤ 0 for all rows i, and < 0 for some,    t = z(u)

    Along such a direction u the loss falls for ever, however little: no coefficients are a minimum. It is looked for
    among the directions along which ∇²F is next to zero beside ∇²F at θ = 0, as the part of θ in their span. For
    counts, tᵢ ≤ 0 where yᵢ = 0 and tᵢ = 0 elsewhere.

    Args:
        objective: F at a claimed minimum.

    Reference: Albert and Anderson (1984), doi:10.1093/biomet/71.1.1; counts: Santos Silva and Tenreyro (2010),
    doi:10.1016/j.econlet.2010.02.020.
    """
    shape, task = objective.linear_map, objective.loss.task
    may_separate = task.predicts_rates or task.probabilities is not None
    if shape is None or not may_separate or objective.is_penalized or not can_examine(objective):
        return None
    scores = objective.scores()
    if float(scores.max() - scores.min()) <= _RANGE:
        return None
    point, curvature = objective.point, objective.hessian()
    try:
        objective.move(torch.zeros_like(point))
        direction = _flat_part(point, curvature, objective.hessian(), objective.samples)
        objective.move(direction)
        change = objective.scores()
    finally:
        objective.move(point)
    target = objective.first_rows().target
    with torch.enable_grad():
        leaf = scores.requires_grad_()
        (slope,) = torch.autograd.grad(objective.loss(leaf, target).sum(), leaf)
    largest = change.abs().amax()
    if task.predicts_rates:
        moved = change.abs() > _ROUNDING * largest
        separated = bool((change <= _ROUNDING * largest).all()) and not bool(target[moved].any())
    else:
        # what is common to all classes changes nothing
        apart = change - change.mean(dim=1, keepdim=True) if change.shape[1] > 1 else change
        moved = (apart.abs() > _ROUNDING * largest).any(dim=1)
        separated = bool(((slope * apart).sum(dim=1)[moved] < 0.0).all())
    if not (separated and bool(moved.any())):
        return None
    return Outcome(
        "stalled",
        f"{int(moved.sum())} rows are perfectly separated{_by(objective, shape.matrix(direction))}: the loss has no "
        "minimum, as it keeps falling while coefficients grow",
        "add a penalty l2, or leave the feature out",
    )


def _flat_part(point: Tensor, curvature: Tensor, at_zero: Tensor, samples: int) -> Tensor:
    """The part of θ (p,) in the span of the directions along which there is next to no curvature left."""
    diagonal = at_zero.diagonal()
    unit = torch.where(diagonal > 0.0, diagonal, torch.ones_like(diagonal)).rsqrt()
    values, vectors = torch.linalg.eigh(at_zero * unit * unit[:, None])
    known = values > 8 * len(values) * EPSILON * values[-1]
    basis = vectors[:, known] * values[known].sqrt()
    whitening = unit[:, None] * vectors[:, known] / values[known].sqrt()
    left, directions = torch.linalg.eigh(whitening.mT @ curvature @ whitening)
    flat = directions[:, left < _CURVED / samples * left[-1].clamp(max=1.0)]
    coordinates = basis.mT @ (point / unit)
    part: Tensor = whitening @ (flat @ (flat.mT @ coordinates))
    return part


def _by(objective: Objective, coefficients: Tensor) -> str:
    """Which features separate, by name where there are names."""
    names: tuple[str, ...] | None = getattr(objective.training_set, "feature_names", None)
    if not names:
        return ""
    slopes = coefficients[-len(names) :].abs().amax(dim=1)
    large = torch.nonzero(slopes >= 0.3 * slopes.max()).squeeze(1).tolist()
    more = f" and {len(large) - 3} more" if len(large) > 3 else ""
    return f" by {', '.join(names[j] for j in large[:3])}{more}"
