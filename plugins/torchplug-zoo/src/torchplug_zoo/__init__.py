"""Optimizers, schedulers and losses of torch, pytorch-optimizer, timm and schedulefree."""

from __future__ import annotations

from torchplug import Component, Family, hookimpl
from torchplug_zoo.catalogue import components


@hookimpl
def torchplug_losses() -> list[Component]:
    """Losses of torch.nn whose values are those of single samples."""
    return components(Family.LOSS)


@hookimpl
def torchplug_optimizers() -> list[Component]:
    """Optimizers of the installed libraries."""
    return components(Family.OPTIMIZER)


@hookimpl
def torchplug_schedulers() -> list[Component]:
    """Learning-rate schedulers of the installed libraries."""
    return components(Family.SCHEDULER)
