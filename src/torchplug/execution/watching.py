"""Learning-rate schedules that watch a metric, such as `plateau`: when they step."""

from __future__ import annotations

import sys

from lightning.pytorch import Trainer

from torchplug.execution.resumption import epoch_is_complete

NEVER = sys.maxsize
"""The frequency, in epochs, at which Lightning is told to step such a schedule."""


def step_watching_schedulers(trainer: Trainer, validated: bool) -> None:
    """Step the schedules that watch a metric, by its value at the end of an epoch.

    Called before the epoch's checkpoint is written, so that the checkpoint holds the schedule after its step; Lightning
    would step it afterwards, and leave the step out when a fit is resumed. A schedule that watches a validation metric
    steps only in epochs with a validation, and none steps in an epoch that is cut short.

    Args:
        trainer: of the fit.
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
