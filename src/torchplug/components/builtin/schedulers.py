"""Schedules of the learning rate α in closed form.

Epochs (or optimizer steps, with `interval: step`) are counted from 0; α₀ is the optimizer's own
learning rate, per group. The saved state of a schedule is its progress only: its parameters come from
the constructor, so that a resumed run follows the schedule of its configuration.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from torchplug.components.parameter_groups import factor_of
from torchplug.components.validate import at_least, below_one, non_negative, one_of, positive

Interval = Literal["epoch", "step"]


class Rule(LRScheduler):
    """Base class of schedules with α in closed form: `rate(α₀, count)`.

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        interval: whether epochs or optimizer steps are counted.
    """

    def __init__(self, optimizer: Optimizer, interval: Interval = "epoch") -> None:
        one_of("epoch", "step", interval=interval)
        self.interval = interval
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """Return α after `count` epochs or steps, from α₀ = `initial`."""
        raise TypeError(f"{type(self).__name__} does not define rate(initial, count)")

    def get_lr(self) -> list[float | Tensor]:
        """Return α of each parameter group."""
        return [self.rate(float(initial), self.last_epoch) for initial in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's progress, as plain numbers."""
        return {key: self.__dict__[key] for key in ("base_lrs", "last_epoch", "_step_count", "_last_lr")}


class Constant(Rule):
    r"""Constant learning rate.

        α(epoch) = α₀

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)

    def rate(self, initial: float, count: int) -> float:
        """α₀."""
        return initial


class InverseTime(Rule):
    r"""Inverse-time decay.

        α(epoch) = α₀ / (1 + t·epoch)

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        decay: t ≥ 0, per epoch (or step).
        interval: whether epochs or optimizer steps are counted.

    Raises:
        ValueError: if decay is negative or not finite.
    """

    def __init__(self, optimizer: Optimizer, *, decay: float = 0.1, interval: Interval = "epoch") -> None:
        non_negative(decay=decay)
        self.decay = decay
        super().__init__(optimizer, interval)

    def rate(self, initial: float, count: int) -> float:
        """α₀ / (1 + t·count)."""
        return initial / (1.0 + self.decay * count)


class StepDecay(Rule):
    r"""Step decay: α decreases by the fraction t every n epochs.

        α ← α − t·α every n epochs,    so α(epoch) = (1 − t)^⌊epoch/n⌋ α₀

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        every: n ≥ 1, epochs (or steps) between reductions.
        fraction: t in [0, 1), the fraction removed.
        interval: whether epochs or optimizer steps are counted.

    Raises:
        ValueError: if every or fraction is out of range.

    Note: torch's StepLR has gamma = 1 − t, the fraction that remains.
    """

    def __init__(
        self, optimizer: Optimizer, *, every: int = 10, fraction: float = 0.5, interval: Interval = "epoch"
    ) -> None:
        at_least(1, every=every)
        below_one(fraction=fraction)
        self.every = every
        self.fraction = fraction
        super().__init__(optimizer, interval)

    def rate(self, initial: float, count: int) -> float:
        """(1 − t)^⌊count/n⌋ α₀."""
        return initial * (1.0 - self.fraction) ** (count // self.every)


class Exponential(Rule):
    r"""Exponential decay.

        α(epoch) = t^epoch · α₀

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        decay: t in (0, 1], the factor per epoch (or step).
        interval: whether epochs or optimizer steps are counted.

    Raises:
        ValueError: if decay is outside (0, 1].

    Note: torch's ExponentialLR calls the factor gamma.
    """

    def __init__(self, optimizer: Optimizer, *, decay: float = 0.95, interval: Interval = "epoch") -> None:
        if not 0 < decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {decay}")
        self.decay = decay
        super().__init__(optimizer, interval)

    def rate(self, initial: float, count: int) -> float:
        """t^count · α₀."""
        return initial * self.decay**count


class InverseSqrt(Rule):
    r"""Decay with the inverse square root of the epoch.

        α = t/√epoch · α₀, with epochs counted from 1

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        scale: t > 0.
        interval: whether epochs or optimizer steps are counted.

    Raises:
        ValueError: if scale is not positive.

    Note: counted from 1, because the formula is undefined at epoch 0; the first epoch has α = t·α₀.
    """

    def __init__(self, optimizer: Optimizer, *, scale: float = 1.0, interval: Interval = "epoch") -> None:
        positive(scale=scale)
        self.scale = scale
        super().__init__(optimizer, interval)

    def rate(self, initial: float, count: int) -> float:
        """t/√(count + 1) · α₀."""
        return initial * self.scale / math.sqrt(count + 1)


class Manual(Rule):
    r"""Learning rates from a table of epochs, each in effect from its epoch on.

        α(epoch) = table[e], e the last listed epoch that is not after this one; α₀ before the first

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        table: epoch ≥ 0 → α > 0. The value is α itself, times the factor of a parameter group that has one.
        interval: whether epochs or optimizer steps are counted.

    Raises:
        ValueError: if the table is empty, or an epoch or learning rate is out of range.
    """

    def __init__(self, optimizer: Optimizer, *, table: dict[int, float], interval: Interval = "epoch") -> None:
        if not table:
            raise ValueError("table must list at least one epoch and its learning rate")
        for epoch, rate in table.items():
            at_least(0, **{"an epoch of the table": epoch})
            positive(**{f"the learning rate of epoch {epoch}": rate})
        self.epochs = sorted(table)
        self.rates = [table[epoch] for epoch in self.epochs]
        super().__init__(optimizer, interval)

    def rate(self, initial: float, count: int) -> float:
        """The last listed learning rate, or α₀."""
        listed = bisect_right(self.epochs, count)
        return self.rates[listed - 1] if listed else initial

    def get_lr(self) -> list[float | Tensor]:
        """Return α of each parameter group: a listed rate times the group's factor."""
        if self.last_epoch < self.epochs[0]:
            return list(self.base_lrs)
        listed = self.rate(0.0, self.last_epoch)
        return [listed * factor_of(group) for group in self.optimizer.param_groups]


class Cosine(Rule):
    r"""Half a cosine from α₀ down to a minimum, over the whole run.

        α(epoch) = α_min + ½ (α₀ − α_min)(1 + cos(π·epoch/T)),    T the epochs of the run

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        total_steps: optimizer steps of the run; given by the core if it has a planned end.
        steps_per_epoch: optimizer steps of an epoch; given by the core.
        min_lr: α_min ≥ 0, reached at the end.
        interval: whether α changes at every epoch or at every optimizer step.

    Raises:
        ValueError: if min_lr is negative, or the run has no planned end.

    Reference: Loshchilov and Hutter (2017), arXiv:1608.03983.
    Note: equals torch's CosineAnnealingLR up to the end of the run; after it α stays at its minimum, where
    torch's rises again.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int | None = None,
        steps_per_epoch: int,
        min_lr: float = 0.0,
        interval: Interval = "epoch",
    ) -> None:
        non_negative(min_lr=min_lr)
        steps = _planned(total_steps)
        self.length = steps / steps_per_epoch if interval == "epoch" else steps
        self.min_lr = min_lr
        super().__init__(optimizer, interval)

    def rate(self, initial: float, count: int) -> float:
        """α_min + ½ (α₀ − α_min)(1 + cos(π·count/T))."""
        passed = min(count / self.length, 1.0)
        return self.min_lr + 0.5 * (initial - self.min_lr) * (1.0 + math.cos(math.pi * passed))


class OneCycle(Rule):
    r"""One cycle over the whole run, per step: up to α₀, then far down.

        α₀/d  →  α₀  in the first part p of the T steps,    α₀  →  α₀/(d·f)  in the rest

    Args:
        optimizer: the optimizer whose learning rates change; given by the core. Its own is α₀, the peak.
        total_steps: T, optimizer steps of the run; given by the core if it has a planned end.
        pct_start: p in (0, 1), the part of the run in which α rises.
        div_factor: d ≥ 1; the cycle begins at α₀/d.
        final_div_factor: f ≥ 1; it ends at α₀/(d·f).
        anneal_strategy: `cos` or `linear` between those points.

    Raises:
        ValueError: if a parameter is out of range, or the run has no planned end.

    Reference: Smith and Topin (2019), doi:10.1117/12.2520589.
    Note: equals torch's OneCycleLR without its cycling of momentum; after the run's end α stays at its last
    value, where torch's raises an error.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int | None = None,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        anneal_strategy: Literal["cos", "linear"] = "cos",
    ) -> None:
        if not 0 < pct_start < 1:
            raise ValueError(f"pct_start must be in (0, 1), got {pct_start}")
        at_least(1, div_factor=div_factor, final_div_factor=final_div_factor)
        positive(div_factor=div_factor, final_div_factor=final_div_factor)
        one_of("cos", "linear", anneal_strategy=anneal_strategy)
        self.end = _planned(total_steps) - 1
        self.peak = pct_start * (self.end + 1) - 1
        self.div_factor = div_factor
        self.final_div_factor = final_div_factor
        self.anneal_strategy = anneal_strategy
        super().__init__(optimizer, "step")

    def rate(self, initial: float, count: int) -> float:
        """Interpolate within the rise or the fall."""
        bottom = initial / self.div_factor
        if count < self.peak:
            return self._between(bottom, initial, count / self.peak)
        passed = min((count - self.peak) / (self.end - self.peak), 1.0)
        return self._between(initial, bottom / self.final_div_factor, passed)

    def _between(self, start: float, end: float, passed: float) -> float:
        if self.anneal_strategy == "linear":
            return start + (end - start) * passed
        return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * passed))


def _planned(total_steps: int | None) -> int:
    if total_steps is None or not 0 <= total_steps < math.inf:
        raise ValueError("needs to know where training ends: set max_epochs or max_steps")
    return max(int(total_steps), 1)
