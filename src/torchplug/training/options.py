"""Execution options of minibatch training."""

from __future__ import annotations

from dataclasses import dataclass

from torchplug.engine import ENGINES, Engine
from torchplug.errors import ConfigurationError
from torchplug.training.grouping import StepsPerExecution


@dataclass(frozen=True)
class Execution:
    """Execution options of minibatch training.

    Args:
        engine: how gradients are computed.
        steps_per_execution: optimizer steps per step of Lightning's, at least 1, or `auto`.
        sync_every: K, ranks average parameters at every K-th step; None: they average gradients at every step.
        gradient_norms: whether rows of the log have the gradient norm of each layer.

    Raises:
        ConfigurationError: for a value that does not exist.
    """

    engine: Engine = "auto"
    steps_per_execution: StepsPerExecution = "auto"
    sync_every: int | None = None
    gradient_norms: bool = False

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ConfigurationError(f"engine is one of {', '.join(ENGINES)}, not {self.engine!r}")
        steps, every = self.steps_per_execution, self.sync_every
        if steps != "auto" and not _is_count(steps):
            raise ConfigurationError(f"steps_per_execution is a whole number of at least 1, or auto, not {steps!r}")
        if every is not None and not _is_count(every):
            raise ConfigurationError(f"sync_every is a whole number of at least 1, or left out, not {every!r}")
        if not isinstance(self.gradient_norms, bool):
            raise ConfigurationError(f"gradient_norms is true or false, not {self.gradient_norms!r}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
