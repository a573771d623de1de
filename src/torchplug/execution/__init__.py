"""How data becomes optimizer steps.

A `Strategy` is the object to which `ComponentModule`'s hooks delegate: `Minibatches`, or `FullBatch` for an optimizer
that uses the whole training set at each step.
"""

from torchplug.engine import Engine
from torchplug.execution.full_batch import FullBatch, full_batch_objective
from torchplug.execution.grouping import StepsPerExecution
from torchplug.execution.minibatches import Minibatches
from torchplug.execution.options import Execution
from torchplug.execution.planning import planned_steps
from torchplug.execution.stopping import StopAtBoundary
from torchplug.execution.strategy import Strategy

__all__ = [
    "Engine",
    "Execution",
    "FullBatch",
    "Minibatches",
    "StepsPerExecution",
    "StopAtBoundary",
    "Strategy",
    "full_batch_objective",
    "planned_steps",
]
