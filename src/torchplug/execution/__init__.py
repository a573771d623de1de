"""How data becomes optimizer steps.

A `Strategy` is what `ComponentModule`'s hooks delegate to: `Minibatches`, or `FullSet` for an optimizer that sees the
whole training set.
"""

from torchplug.engine import Engine
from torchplug.execution.calls import StepsPerCall
from torchplug.execution.full_set import FullSet, full_batch_objective
from torchplug.execution.minibatches import Minibatches
from torchplug.execution.options import Execution
from torchplug.execution.planning import planned_steps
from torchplug.execution.stopping import StopAtBoundary
from torchplug.execution.strategy import Strategy

__all__ = [
    "Engine",
    "Execution",
    "FullSet",
    "Minibatches",
    "StepsPerCall",
    "StopAtBoundary",
    "Strategy",
    "full_batch_objective",
    "planned_steps",
]
