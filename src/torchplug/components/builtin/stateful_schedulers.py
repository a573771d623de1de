"""Schedules of the learning rate α with state: `plateau` monitors a metric, `warmup` wraps another schedule.

As for the closed forms, the saved state is their progress only.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from torchplug.components.builtin.schedulers import Interval
from torchplug.components.validate import at_least, non_negative, one_of, positive
from torchplug.registry.component import Factory


class Plateau(ReduceLROnPlateau):
    r"""Reduces α when a monitored metric has stopped improving.

        α ← max(factor·α, min_lr) after more than `patience` epochs without improvement

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        monitor: name of the logged metric, such as `val/loss`.
        mode: whether a smaller (`min`) or larger (`max`) metric is better.
        factor: in (0, 1), the factor of each reduction.
        patience: epochs ≥ 0 without improvement that are tolerated.
        threshold: ≥ 0, the smallest relative improvement that counts.
        cooldown: epochs ≥ 0 after a reduction that are not counted.
        min_lr: ≥ 0, the lower bound of α.

    Raises:
        ValueError: if a parameter is out of range.

    Note: torch's ReduceLROnPlateau, with the metric chosen by name.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0.0,
    ) -> None:
        if not 0 < factor < 1:
            raise ValueError(f"factor must be in (0, 1), got {factor}")
        at_least(0, patience=patience, cooldown=cooldown)
        non_negative(threshold=threshold, min_lr=min_lr)
        one_of("min", "max", mode=mode)
        self.monitor = monitor
        self.interval: Interval = "epoch"
        super().__init__(optimizer, mode, factor, patience, threshold, cooldown=cooldown, min_lr=min_lr)

    def state_dict(self) -> dict[str, Any]:
        """Return the schedule's progress, as plain numbers."""
        progress = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")
        return {key: self.__dict__[key] for key in progress}


class Warmup(LRScheduler):
    r"""Linear warm-up to the learning rate, per step; then another schedule, or constant α₀.

        α(step) = α₀ (s + (1 − s)·step/n)  for step < n,    then the wrapped schedule from its start

    Args:
        optimizer: the optimizer whose learning rates change; given by the core.
        total_steps: optimizer steps of the run; given by the core if it has a planned end.
        steps_per_epoch: optimizer steps of an epoch; given by the core.
        steps: n ≥ 1, the length of the rise in optimizer steps.
        epochs: the length in epochs > 0, instead of steps; with neither given, one epoch.
        start: s in [0, 1], the fraction of α₀ at the first step.
        after: the schedule that follows, with its parameters. Its epochs are counted from the end of
            the rise, steps_per_epoch steps each, and its run is the remainder of this one.

    Raises:
        ValueError: if a length or the start is out of range, both lengths are given, or the wrapped
            schedule monitors a metric.

    Reference: Goyal et al. (2017), arXiv:1706.02677, section 2.2.
    Note: equals torch's LinearLR followed by another scheduler in a SequentialLR.
    """

    interval: Interval = "step"

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: int | None = None,
        steps_per_epoch: int,
        steps: int | None = None,
        epochs: float | None = None,
        start: float = 0.01,
        after: Factory | None = None,
    ) -> None:
        self.length = _warmup_length(steps, epochs, steps_per_epoch)
        if not 0 <= start <= 1:
            raise ValueError(f"start must be in [0, 1], got {start}")
        self.start = start
        self.after: LRScheduler | None = None
        if after is not None:
            remaining = None if total_steps is None else max(total_steps - self.length, 0)
            self.after = after(optimizer, total_steps=remaining, steps_per_epoch=steps_per_epoch)
            if getattr(self.after, "monitor", None) is not None:
                raise ValueError("warmup cannot wrap a schedule that waits for a metric, such as plateau")
        self.stride = 1 if getattr(self.after, "interval", "epoch") == "step" else steps_per_epoch
        # The end of the rise: α₀, unless the wrapped schedule starts elsewhere.
        self.summit = [float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(optimizer)

    @property
    def stop_early(self) -> bool:
        """Whether the wrapped schedule may end the run."""
        return getattr(self.after, "stop_early", False)

    def reason_to_end(self, loss: float) -> str | None:
        """Return why the wrapped schedule ends the run, or None."""
        after: Any = self.after
        reason: str | None = after.reason_to_end(loss) if self.stop_early else None
        return reason

    def get_lr(self) -> list[float | Tensor]:
        """Return α of each parameter group."""
        if self.last_epoch > self.length:
            return [group["lr"] for group in self.optimizer.param_groups]
        share = self.start + (1.0 - self.start) * self.last_epoch / self.length
        return [summit * (share if self.last_epoch < self.length else 1.0) for summit in self.summit]

    def step(self, epoch: int | None = None) -> None:
        """Advance by one optimizer step."""
        beyond = self.last_epoch + 1 - self.length
        if self.after is not None and beyond > 0 and beyond % self.stride == 0:
            self.after.step()
        super().step(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the progress of this schedule and the wrapped one."""
        state = {key: self.__dict__[key] for key in ("base_lrs", "last_epoch", "_step_count", "_last_lr", "summit")}
        return state | {"after": None if self.after is None else self.after.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the progress that `state_dict` returned."""
        own = {key: value for key, value in state_dict.items() if key != "after"}
        super().load_state_dict(own)
        if self.after is not None and state_dict["after"] is not None:
            self.after.load_state_dict(state_dict["after"])


def _warmup_length(steps: int | None, epochs: float | None, steps_per_epoch: int) -> int:
    if steps is not None and epochs is not None:
        raise ValueError("give the warm-up's length in steps or in epochs, not both")
    if steps is not None:
        at_least(1, steps=steps)
        return steps
    length = 1.0 if epochs is None else epochs
    positive(epochs=length)
    return max(round(length * steps_per_epoch), 1)
