"""Perfectly separated classes: a likelihood without penalty then has no maximum."""

from __future__ import annotations

from torchplug import Objective, Outcome

_LIKELIHOODS = ("binary", "multiclass")
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
    if objective.loss.kind not in _LIKELIHOODS or objective.penalties:
        return None
    if value / objective.scale >= _LEAST_TOTAL * min(1.0, initial / (objective.scale * objective.samples)):
        return None
    return Outcome(
        "stalled",
        "the classes are perfectly separated: the loss has no minimum, as it falls to zero while coefficients grow",
        "add a penalty l2",
    )
