"""Schedules of learning rate α and weight decay w over a whole run, per optimizer step.

t in [0, 1] is the part of the run that is over; α₀ and w₀ are the optimizer's own, of each parameter group.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchplug_tabular.annealing import flat_cosine

_ROUNDING = 1e-9
"""By how much of a cycle its end may be missed."""


class OverRun(LRScheduler):
    """Base class of schedules α = α₀ · factor(t); after the end of the run t stays 1.

    Args:
        optimizer: the optimizer whose groups change; given by the core.
        total_steps: T, optimizer steps of the run; given by the core if it has a planned end.
        anneal_weight_decay: whether w = w₀ · flat_cosine(t), in groups that have a weight decay; else it stays w₀.

    Raises:
        ValueError: if the run has no planned end.
    """

    interval = "step"

    def __init__(
        self, optimizer: Optimizer, *, total_steps: int | None = None, anneal_weight_decay: bool = False
    ) -> None:
        if total_steps is None:
            raise ValueError("needs to know where training ends: set max_epochs or max_steps")
        self.total_steps = max(total_steps, 1)
        self.anneal_weight_decay = anneal_weight_decay
        self.base_weight_decays = [group.get("weight_decay") for group in optimizer.param_groups]
        super().__init__(optimizer)

    def factor(self, passed: float) -> float:
        """Return α/α₀ after the part `passed` of the run."""
        raise TypeError(f"{type(self).__name__} does not define factor(passed)")

    def get_lr(self) -> list[float | Tensor]:
        """Return α of each parameter group."""
        factor = self.factor(self._passed)
        return [initial * factor for initial in self.base_lrs]

    def step(self, epoch: int | None = None) -> None:
        """Advance by one optimizer step."""
        super().step(epoch)
        if not self.anneal_weight_decay:
            return
        factor = flat_cosine(self._passed)
        for group, initial in zip(self.optimizer.param_groups, self.base_weight_decays, strict=False):
            if initial is not None:
                group["weight_decay"] = initial * factor

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's progress, as plain numbers; the run's length comes from the constructor."""
        progress = ("base_lrs", "base_weight_decays", "last_epoch", "_step_count", "_last_lr")
        return {key: self.__dict__[key] for key in progress}

    @property
    def _passed(self) -> float:
        return min(self.last_epoch / self.total_steps, 1.0)


class CosLog(OverRun):
    r"""Cosine cycles that double in length, each from 0 up to α₀ and back.

        α(t) = ½ α₀ (1 − cos(2π log₂(1 + (2ⁿ − 1) t)))
        w(t) = w₀  for t < ½,    ½ w₀ (1 + cos(π (2t − 1)))  after

    Large steps come back several times, so that bad minima are left, and each cycle ends with small steps: the
    best epochs lie at the ends of cycles. The weight decay w of each parameter group falls from its own w₀ to 0 in
    the second half of the run; an optimizer without weight decay has none to lower, and penalties such as `l2` stay.

    Args:
        optimizer: the optimizer whose groups change; given by the core. Its own learning rate is α₀, the peak.
        total_steps: T, optimizer steps of the run; given by the core if it has a planned end.
        cycles: n ≥ 1, the number of cycles; the k-th ends at t = (2ᵏ − 1)/(2ⁿ − 1).
        anneal_weight_decay: whether the weight decay falls; else it stays w₀.
        stop_early: whether training ends after a cycle in which no epoch has a lower validation loss than all epochs
            before; the first cycle never ends it. Without validation rows it has no effect.

    Raises:
        ValueError: if cycles is below 1, or the run has no planned end.

    Reference: Holzmüller, Grinsztajn and Steinwart (2024), arXiv 2407.04491, section 3, for both.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int | None = None,
        cycles: int = 4,
        anneal_weight_decay: bool = True,
        stop_early: bool = False,
    ) -> None:
        if not 1 <= cycles <= 30:
            raise ValueError(f"cycles must be from 1 to 30, got {cycles}")
        self.cycles = cycles
        self.stop_early = stop_early
        self._cycle, self._least, self._least_before = 0, math.inf, math.inf
        super().__init__(optimizer, total_steps=total_steps, anneal_weight_decay=anneal_weight_decay)

    def factor(self, passed: float) -> float:
        """½ (1 − cos(2π log₂(1 + (2ⁿ − 1) t)))."""
        return 0.5 * (1.0 - math.cos(2.0 * math.pi * self._cycles_passed(passed)))

    def reason_to_end(self, loss: float) -> str | None:
        """Return why training ends after an epoch, or None; asked after each epoch with a validation.

        Args:
            loss: of the validation split, after the epoch's steps.
        """
        passed = self._cycles_passed(self._passed)
        cycle, reason = max(math.ceil(passed - _ROUNDING), 1), None
        if cycle != self._cycle:
            reason = self._end_cycle(cycle)
        self._least = min(self._least, loss)
        if cycle <= passed + _ROUNDING:
            reason = reason or self._end_cycle(cycle + 1)
        return reason

    def _end_cycle(self, following: int) -> str | None:
        """Begin to look at another cycle; why the one before ends the run, or None, as also where it had no epoch."""
        ended, least, before = self._cycle, self._least, self._least_before
        self._cycle, self._least, self._least_before = following, math.inf, min(least, before)
        if math.inf in (least, before) or least < before:
            return None
        return f"cycle {ended} of the learning rate did not lower the validation loss"

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's progress, as plain numbers."""
        return super().state_dict() | {key: self.__dict__[key] for key in ("_cycle", "_least", "_least_before")}

    def _cycles_passed(self, passed: float) -> float:
        return math.log2(1.0 + (2**self.cycles - 1) * passed)


class FlatCosine(OverRun):
    r"""Constant learning rate, then half a cosine down to 0.

        α(t) = α₀  for t < p,    ½ α₀ (1 + cos(π (t − p)/(1 − p)))  after
        w(t) = w₀, or with anneal_weight_decay  w₀  for t < ½,    ½ w₀ (1 + cos(π (2t − 1)))  after

    Args:
        optimizer: the optimizer whose groups change; given by the core.
        total_steps: T, optimizer steps of the run; given by the core if it has a planned end.
        flat: p in [0, 1), the part of the run at α₀; 0 is cosine decay per step.
        anneal_weight_decay: whether the weight decay of each parameter group falls from its own w₀ to 0 in the second
            half of the run; else it stays. An optimizer without weight decay has none to lower.

    Raises:
        ValueError: if flat is outside [0, 1), or the run has no planned end.

    Reference: Howard and Gugger (2020), doi:10.3390/info11020108, where p is 0.72.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int | None = None,
        flat: float = 0.5,
        anneal_weight_decay: bool = False,
    ) -> None:
        if not 0 <= flat < 1:
            raise ValueError(f"flat must be in [0, 1), got {flat}")
        self.flat = flat
        super().__init__(optimizer, total_steps=total_steps, anneal_weight_decay=anneal_weight_decay)

    def factor(self, passed: float) -> float:
        """1, then ½ (1 + cos(π (t − p)/(1 − p)))."""
        return flat_cosine(passed, self.flat)
