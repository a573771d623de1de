"""Plateaus: points where a curve hardly depends on a parameter, so that F has next to no slope, and no minimum."""

from __future__ import annotations

import torch

from torchplug import Objective, Outcome
from torchplug_second_order.sizes import can_examine

_COSINE = 1e-4
"""At a minimum cosines are 1e-9 or less, on a plateau 1e-3 or more."""
_FITTED = 1e-20
"""Of the first F: below that residuals are rounding, whose angle means nothing."""


def plateau(objective: Objective, value: float, initial: float) -> Outcome | None:
    r"""An outcome where a claimed minimum is none, else None.

        |Jⱼᵀs| > 10⁻⁴ ‖Jⱼ‖ ‖s‖,    or    Jⱼ = 0,    s = ∂ℓ/∂z,  J = ∂z/∂θ

    At a minimum s, for least squares the residuals, is orthogonal to every column of J. Where a column is next to zero,
    so is its part of ∇F, whatever the angle: the decrease of F that a method expects is then small without a minimum.
    Not tested are penalized fits, and chains of linear maps and activations, as single units of a perceptron may be
    saturated at a minimum.

    Args:
        objective: F at a claimed minimum.
        value: F there.
        initial: F at the start.

    Reference: Moré (1978), doi:10.1007/BFb0067700 (MINPACK's test of orthogonality).
    """
    if objective.is_penalized or objective.is_chain or value <= _FITTED * initial or not can_examine(objective):
        return None
    cosines = objective.score_cosines()
    flat = torch.nonzero(~(cosines <= _COSINE)).squeeze(1).tolist()
    if not flat:
        return None
    return Outcome(
        "stalled",
        "the loss has no minimum here: it is flat, as the model hardly depends on "
        f"{', '.join(_names(objective, flat)[:3])}",
        "start nearer to the solution, or use levenberg_marquardt",
    )


def _names(objective: Objective, indices: list[int]) -> list[str]:
    """What to call elements of θ: `b[2]`."""
    found = []
    for name, parameter in objective.network.named_parameters():
        if not parameter.requires_grad:
            continue
        count = parameter.numel()
        found += [name if parameter.ndim == 0 else f"{name}[{j}]" for j in range(count)]
    return [found[j] if j < len(found) else f"parameter {j}" for j in indices]
