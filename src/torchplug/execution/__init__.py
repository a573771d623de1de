"""How data becomes optimizer steps.

An execution strategy is a small object to which `ComponentModule`'s hooks delegate: `Minibatches`, or `FullBatch` for an
optimizer that sees the whole training set. Both have the same methods.
"""

from torchplug.component import Capability
from torchplug.engine import ENGINES, Engine
from torchplug.errors import ConfigurationError
from torchplug.execution.full_batch import FullBatch
from torchplug.execution.grouping import StepsPerExecution
from torchplug.execution.minibatches import Minibatches
from torchplug.execution.planning import planned_steps
from torchplug.execution.stopping import StopAtBoundary
from torchplug.registry import Resolved

__all__ = ["Engine", "FullBatch", "Minibatches", "StepsPerExecution", "StopAtBoundary", "planned_steps", "strategy_for"]


def strategy_for(
    optimizer: Resolved,
    engine: Engine = "auto",
    steps_per_execution: StepsPerExecution = "auto",
    sync_every: int | None = None,
) -> FullBatch | Minibatches:
    """The strategy that an optimizer asks for by its needs.

    Raises:
        ConfigurationError: for settings that do not exist, or that the strategy has no use for.
    """
    if engine not in ENGINES:
        raise ConfigurationError(f"engine is one of {', '.join(ENGINES)}, not {engine!r}")
    if steps_per_execution != "auto" and not _is_count(steps_per_execution):
        raise ConfigurationError(
            f"steps_per_execution is a whole number of at least 1, or auto, not {steps_per_execution!r}"
        )
    if sync_every is not None and not _is_count(sync_every):
        raise ConfigurationError(f"sync_every is a whole number of at least 1, or left out, not {sync_every!r}")
    if Capability.OBJECTIVE not in optimizer.capabilities:
        return Minibatches(engine, steps_per_execution, sync_every)
    if engine != "auto" or steps_per_execution not in ("auto", 1) or sync_every is not None:
        raise ConfigurationError(
            f"{optimizer.name} makes one step per epoch, alike on every rank, and chooses its own derivatives: "
            "leave out engine, steps_per_execution and sync_every"
        )
    return FullBatch(optimizer.name, optimizer.capabilities)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
