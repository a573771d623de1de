"""Selection of a fit's gradient engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Literal, get_args

from torchplug.engine.analytic import Analytic, why_not_analytic
from torchplug.engine.autograd import Autograd
from torchplug.engine.contract import GradientEngine, Losses, Precision
from torchplug.errors import ConfigurationError
from torchplug.flat_storage import FlatStorage
from torchplug.objective import StepObjective

Engine = Literal["auto", "autograd", "analytic", "compiled"]
ENGINES = get_args(Engine)


def check_analytic(objective: StepObjective, obstacle: str | None = None) -> None:
    """Refuse the engine `analytic` where it is not available.

    Args:
        objective: F on a minibatch.
        obstacle: another reason why it is not available.

    Raises:
        ConfigurationError: with the reason.
    """
    obstacle = obstacle or why_not_analytic(objective, "32-true")
    if obstacle is not None:
        raise ConfigurationError(f"engine analytic: {obstacle}; leave the engine at auto, which then takes autograd")


def choose(
    asked: Engine,
    objective: StepObjective,
    losses: Losses,
    storage: FlatStorage | None,
    precision: Precision,
    compiling_pays: Callable[[], bool] = lambda: False,
) -> GradientEngine:
    """Return the engine of a name, or for "auto" the fastest that is available.

    Args:
        asked: the name.
        objective: F on a minibatch.
        losses: receives the losses of batches.
        storage: the parameters' flat storage, if there is one.
        precision: the trainer's precision plugin.
        compiling_pays: whether "auto" compiles where analytic gradients are available.

    Raises:
        ConfigurationError: if the engine is not available.
    """
    context = nullcontext if precision.precision == "32-true" else precision.forward_context
    obstacle = why_not_analytic(objective, precision.precision)
    if storage is None and obstacle is None:
        obstacle = "the parameters have no flat storage"
    if asked == "analytic":
        check_analytic(objective, obstacle)
    if asked == "compiled" or (asked == "auto" and obstacle is None and compiling_pays()):
        from torchplug.engine.compiled import Compiled  # the compiler takes seconds to import

        return Compiled(objective, losses, storage, context)
    if asked != "autograd" and obstacle is None and storage is not None:
        return Analytic(objective, losses, storage, context)
    return Autograd(objective, losses, storage, context)
