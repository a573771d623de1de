"""Networks that change while they are trained, such as in their rates of dropout."""

from __future__ import annotations

from lightning.pytorch import Trainer
from torch import nn

from torchplug.training.planning import planned_steps


def anneal(network: nn.Module, passed: float) -> None:
    """Tell a network which part of the run is over, if it has a method `anneal`.

    Args:
        network: the network; a compiled one passes the call on.
        passed: in [0, 1].
    """
    if anneals(network):
        network.anneal(passed)  # type: ignore[operator]


def anneals(network: nn.Module) -> bool:
    """Whether a network changes while it is trained: whether it has a method `anneal`."""
    return callable(getattr(network, "anneal", None))


def passed_before_epoch(trainer: Trainer) -> float:
    """Return the part of the run that is over when the current epoch starts, in [0, 1]; 0 without a planned end.

    It depends on the number of the epoch alone, so that it is equal on all ranks and in a fit that is resumed.
    """
    total, per_epoch = planned_steps(trainer)
    if not total or not per_epoch:
        return 0.0
    return min(trainer.current_epoch * per_epoch / total, 1.0)
