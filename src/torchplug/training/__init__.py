"""How data becomes optimizer steps.

A `Strategy` is the object to which `ComponentModule`'s hooks delegate: `Minibatches`, or `FullBatch` for an optimizer
that uses the whole training set at each step.
"""

from torchplug.engine import Engine
from torchplug.training.full_batch import FullBatch, full_batch_objective
from torchplug.training.grouping import StepsPerExecution
from torchplug.training.minibatches import Minibatches
from torchplug.training.options import Execution
from torchplug.training.planning import planned_steps
from torchplug.training.stopping import StopAtBoundary
from torchplug.training.strategy import Strategy

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
