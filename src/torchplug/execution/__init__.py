"""How data becomes optimizer steps.

An execution strategy is a small object to which `ComponentModule`'s hooks delegate: `Minibatches`, or `FullSet` for an
optimizer that sees the whole training set. Both have the same methods.
"""

from torchplug.component import Need
from torchplug.execution.full_set import FullSet
from torchplug.execution.minibatches import Minibatches
from torchplug.execution.planning import planned_steps
from torchplug.registry import Resolved

__all__ = ["FullSet", "Minibatches", "planned_steps", "strategy_for"]


def strategy_for(optimizer: Resolved) -> FullSet | Minibatches:
    """The strategy that an optimizer asks for by its needs."""
    if Need.OBJECTIVE in optimizer.needs:
        return FullSet(optimizer.name, optimizer.needs)
    return Minibatches()
