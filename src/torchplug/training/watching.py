"""Learning-rate schedules that look at a metric after each epoch: `plateau` for its steps, others to end the run."""

from __future__ import annotations

import sys
from typing import Any

from lightning.pytorch import Trainer

from torchplug.training.resumption import epoch_is_complete

NEVER = sys.maxsize
"""The frequency in epochs that keeps Lightning from stepping such a schedule itself."""


def step_watching_schedulers(trainer: Trainer, validated: bool) -> None:
    """Step the schedules that monitor a metric, by its value at the end of an epoch.

    Called before the epoch's checkpoint is written, so that it has the schedule's state after the step; Lightning
    would step it afterwards, and skip the step when a fit is resumed. A schedule that monitors a validation metric
    steps only in epochs with a validation, and none steps in an epoch that is cut short.

    Args:
        trainer: the trainer.
        validated: whether there was a validation in this epoch.
    """
    if not epoch_is_complete(trainer):
        return
    for config in trainer.lr_scheduler_configs:
        monitor = config.monitor
        if monitor is None or config.frequency != NEVER or (monitor.startswith("val/") and not validated):
            continue
        value = trainer.callback_metrics.get(monitor)
        if value is not None:
            trainer.lightning_module.lr_scheduler_step(config.scheduler, value)


def reason_to_end(trainer: Trainer, validated: bool) -> str | None:
    """Return why a schedule ends the run after this epoch, by the epoch's `val/loss`; None if none does.

    Asked, as schedules are stepped, before the epoch's checkpoint is written, in complete epochs with a validation.

    Args:
        trainer: the trainer.
        validated: whether there was a validation in this epoch.
    """
    loss = trainer.callback_metrics.get("val/loss")
    if not validated or loss is None or not epoch_is_complete(trainer):
        return None
    for config in trainer.lr_scheduler_configs:
        scheduler: Any = config.scheduler
        if getattr(scheduler, "stop_early", False) and (reason := scheduler.reason_to_end(float(loss))) is not None:
            return str(reason)
    return None
