"""The hooks that a plugin implements, one for each family of components.

A plugin is a module, advertised by its distribution as an entry point of group `torchplug`:

    [project.entry-points.torchplug]
    my-plugin = "my_package.plugin"

The module marks one or more functions with `torchplug.hookimpl`, named like the hooks here. Each hook
is called once per process, without arguments, when components are first looked up, and returns an
iterable of `Component` records. Targets are strings, so a plugin's module need not import torch,
and should not: listing components calls every hook.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from torchplug.registry.component import Component, Metric

PROJECT = "torchplug"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def torchplug_models() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return models; called once, at the first look-up of any component.

    Returns:
        Components whose targets are called as `target(inputs, outputs, **parameters)`, the sizes
        taken from the data, and give a `torch.nn.Module` that maps (n, inputs) to scores (n, outputs).
    """


@hookspec
def torchplug_losses() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return losses; called once, at the first look-up of any component.

    Returns:
        Components whose targets are called as `target(**parameters)` and give a `torchplug.Loss`.
    """


@hookspec
def torchplug_optimizers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return optimizers; called once, at the first look-up of any component.

    Returns:
        Components whose targets are called as `target(params, **parameters)` and give a
        `torch.optim.Optimizer`. What one supports or needs beyond gradients is in its `capabilities`.
    """


@hookspec
def torchplug_regularizers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return regularizers; called once, at the first look-up of any component.

    Returns:
        Components whose targets are called as `target(**parameters)` and give a `torchplug.Regularizer`.
    """


@hookspec
def torchplug_schedulers() -> Iterable[Component]:  # type: ignore[empty-body]
    """Return learning-rate schedulers; called once, at the first look-up of any component.

    Returns:
        Components whose targets are called as `target(optimizer, **parameters)`, with `total_steps` and
        `steps_per_epoch` (counted in optimizer steps) where their signature names them, and give
        a `torch.optim.lr_scheduler.LRScheduler`.
    """


@hookspec
def torchplug_metrics() -> Iterable[Metric]:  # type: ignore[empty-body]
    """Offer metrics; called once, at the first look-up of any component.

    Returns:
        `Metric` records, which say what goes into a metric and which value is the best. Their targets are called as
        `target(**parameters)`, with `num_classes`, `num_outputs` and `ignore_index` where their signature names them,
        and give a `torchmetrics.Metric`.
    """
