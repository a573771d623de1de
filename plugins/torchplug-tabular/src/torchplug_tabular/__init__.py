"""Networks and learning-rate schedules for tables."""

from __future__ import annotations

from torchplug import Component, hookimpl


@hookimpl
def torchplug_models() -> list[Component]:
    """The networks of this distribution; named by strings, so that listing them imports no torch."""
    return [
        Component("realmlp", "torchplug_tabular.realmlp:RealMLP", "perceptron with scaled inputs, learned activations"),
        Component("tabm", "torchplug_tabular.tabm:TabM", "many perceptrons that share their weights, averaged"),
        Component("resnet", "torchplug_tabular.resnet:ResNet", "perceptron of blocks with skip connections"),
    ]


@hookimpl
def torchplug_schedulers() -> list[Component]:
    """Its schedules of the learning rate."""
    here = "torchplug_tabular.schedulers"
    return [
        Component("coslog", f"{here}:CosLog", "cycles that double in length, from 0 up to α₀ and back"),
        Component("flat_cosine", f"{here}:FlatCosine", "α₀ for a part of the run, then half a cosine down"),
    ]
