"""A distribution of components with one fault each: what `torchplug.testing` must catch."""

from planted import anything, full_batch, losses, metrics, modules, optimizers, regularizers, schedulers, updates
from planted.record import PLANTED
from torchplug import Family, hookimpl

__all__ = ["PLANTED", "anything", "full_batch", "losses", "metrics", "modules"]
__all__ += ["optimizers", "regularizers", "schedulers", "updates"]


def _of(family):
    return [each.component for each in PLANTED.values() if each.family is family]


@hookimpl
def torchplug_models():
    return _of(Family.MODEL)


@hookimpl
def torchplug_losses():
    return _of(Family.LOSS)


@hookimpl
def torchplug_optimizers():
    return _of(Family.OPTIMIZER)


@hookimpl
def torchplug_regularizers():
    return _of(Family.REGULARIZER)


@hookimpl
def torchplug_schedulers():
    return _of(Family.SCHEDULER)


@hookimpl
def torchplug_metrics():
    return _of(Family.METRIC)
