"""Schedules of the learning rate α over a whole run, per optimizer step; t in [0, 1] is the part of it that is over."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class OverRun(LRScheduler):
    """Base class of schedules α = α₀ · factor(t); after the end of the run t stays 1.

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        total_steps: T, optimizer steps of the run; given by the core if it has a planned end.

    Raises:
        ValueError: if the run has no planned end.
    """

    interval = "step"

    def __init__(self, optimizer: Optimizer, *, total_steps: int | None = None) -> None:
        if total_steps is None:
            raise ValueError("needs to know where training ends: set max_epochs or max_steps")
        self.total_steps = max(total_steps, 1)
        super().__init__(optimizer)

    def factor(self, passed: float) -> float:
        """Return α/α₀ after the part `passed` of the run."""
        raise TypeError(f"{type(self).__name__} does not define factor(passed)")

    def get_lr(self) -> list[float | Tensor]:
        """Return α of each parameter group."""
        factor = self.factor(min(self.last_epoch / self.total_steps, 1.0))
        return [initial * factor for initial in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's progress, as plain numbers; the run's length comes from the constructor."""
        return {key: self.__dict__[key] for key in ("base_lrs", "last_epoch", "_step_count", "_last_lr")}


class CosLog(OverRun):
    r"""Cosine cycles that double in length, each from 0 up to α₀ and back.

        α(t) = ½ α₀ (1 − cos(2π log₂(1 + (2ⁿ − 1) t)))

    Large steps come back several times, so that bad minima are left, and each cycle ends with small steps: the
    best epochs lie at the ends of cycles.

    Args:
        optimizer: the optimizer whose learning rates change; given by the core. Its own is α₀, the peak.
        total_steps: T, optimizer steps of the run; given by the core if it has a planned end.
        cycles: n ≥ 1, the number of cycles; the k-th ends at t = (2ᵏ − 1)/(2ⁿ − 1).

    Raises:
        ValueError: if cycles is below 1, or the run has no planned end.

    Reference: Holzmüller, Grinsztajn and Steinwart (2024), arXiv 2407.04491, section 3.
    """

    def __init__(self, optimizer: Optimizer, *, total_steps: int | None = None, cycles: int = 4) -> None:
        if not 1 <= cycles <= 30:
            raise ValueError(f"cycles must be from 1 to 30, got {cycles}")
        self.cycles = cycles
        super().__init__(optimizer, total_steps=total_steps)

    def factor(self, passed: float) -> float:
        """½ (1 − cos(2π log₂(1 + (2ⁿ − 1) t)))."""
        return 0.5 * (1.0 - math.cos(2.0 * math.pi * math.log2(1.0 + (2**self.cycles - 1) * passed)))


class FlatCosine(OverRun):
    r"""Constant learning rate, then half a cosine down to 0.

        α(t) = α₀  for t < p,    ½ α₀ (1 + cos(π (t − p)/(1 − p)))  after

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        total_steps: T, optimizer steps of the run; given by the core if it has a planned end.
        flat: p in [0, 1), the part of the run at α₀; 0 is cosine decay per step.

    Raises:
        ValueError: if flat is outside [0, 1), or the run has no planned end.

    Reference: Howard and Gugger (2020), doi:10.3390/info11020108, where p is 0.72.
    """

    def __init__(self, optimizer: Optimizer, *, total_steps: int | None = None, flat: float = 0.5) -> None:
        if not 0 <= flat < 1:
            raise ValueError(f"flat must be in [0, 1), got {flat}")
        self.flat = flat
        super().__init__(optimizer, total_steps=total_steps)

    def factor(self, passed: float) -> float:
        """1, then ½ (1 + cos(π (t − p)/(1 − p)))."""
        return 0.5 * (1.0 + math.cos(math.pi * max(passed - self.flat, 0.0) / (1.0 - self.flat)))
