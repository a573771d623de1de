"""How data becomes optimizer steps.

An execution strategy is a small object to which `ComponentModule`'s hooks delegate: `Minibatches`, or `FullSet` for an
optimizer that sees the whole training set. Both have the same methods.
"""

from torchplug.component import Need
from torchplug.engine import ENGINES, Engine
from torchplug.errors import ConfigurationError
from torchplug.execution.calls import StepsPerCall
from torchplug.execution.full_set import FullSet
from torchplug.execution.minibatches import Minibatches
from torchplug.execution.planning import planned_steps
from torchplug.registry import Resolved

__all__ = ["Engine", "FullSet", "Minibatches", "StepsPerCall", "planned_steps", "strategy_for"]


def strategy_for(
    optimizer: Resolved, engine: Engine = "auto", steps_per_call: StepsPerCall = "auto"
) -> FullSet | Minibatches:
    """The strategy that an optimizer asks for by its needs.

    Raises:
        ConfigurationError: for settings that do not exist, or that the strategy has no use for.
    """
    if engine not in ENGINES:
        raise ConfigurationError(f"engine is one of {', '.join(ENGINES)}, not {engine!r}")
    if steps_per_call != "auto" and (not isinstance(steps_per_call, int) or steps_per_call < 1):
        raise ConfigurationError(f"steps_per_call is a whole number of at least 1, or auto, not {steps_per_call!r}")
    if Need.OBJECTIVE not in optimizer.needs:
        return Minibatches(engine, steps_per_call)
    if engine != "auto" or steps_per_call not in ("auto", 1):
        raise ConfigurationError(
            f"{optimizer.name} makes one step per epoch and chooses its own derivatives: leave engine and "
            "steps_per_call at auto"
        )
    return FullSet(optimizer.name, optimizer.needs)
