"""Losses for outliers, rare classes, quantiles, margins and counts."""

from __future__ import annotations

from torchplug import Component, hookimpl


@hookimpl
def torchplug_losses() -> list[Component]:
    """The losses of this distribution; named by strings, so that listing them imports no torch."""
    regression = "torchplug_robust.regression"
    classification = "torchplug_robust.classification"
    return [
        Component("huber", f"{regression}:Huber", "quadratic near zero, linear in the tails"),
        Component("log_cosh", f"{regression}:LogCosh", "log cosh of the error, smooth everywhere"),
        Component("tukey", f"{regression}:Tukey", "Tukey's biweight, constant in the tails"),
        Component("quantile", f"{regression}:Quantile", "quantiles of the target, several at once"),
        Component("poisson_nll", f"{regression}:PoissonNLL", "counts, from the logarithm of their rate"),
        Component("hinge", f"{classification}:Hinge", "two classes by margin, plain or squared"),
        Component("focal", f"{classification}:Focal", "binary cross entropy that plays down easy samples"),
    ]
