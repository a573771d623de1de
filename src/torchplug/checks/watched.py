"""Metrics that schedules and callbacks watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping

from torchplug.components.metrics import MetricChoice
from torchplug.errors import ConfigurationError
from torchplug.resolved_config import ResolvedConfig

_VALIDATE = "validate more rows (--data.split) or more often (--trainer.limit_val_batches, check_val_every_n_epoch)"


def refuse_unlogged(trainer: lightning.Trainer, resolved: ResolvedConfig, validated: bool, labelled: bool) -> None:
    """Refuse to wait for a metric that does not exist when it is asked for, or for its worst value.

    Args:
        trainer: with its callbacks.
        resolved: the components.
        validated: whether the fit comes to a validation.
        labelled: whether targets are classes, not probabilities.

    Raises:
        ConfigurationError: naming what watches, and what is logged.
    """
    choice = resolved.metric_choice
    known = choice.watchable(validated, labelled)
    schedule = resolved.trial_scheduler
    if getattr(schedule, "monitor", None) is not None:
        assert resolved.scheduler is not None, "a schedule has a name"
        refuse_monitor(schedule, f"--model.scheduler: {resolved.scheduler.name}", ["train/loss", *known], choice)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    for callback in callbacks:
        if getattr(callback, "monitor", None) is not None:
            where = f"--trainer.callbacks: {type(callback).__name__}"
            refuse_monitor(callback, where, known, choice)
            if isinstance(callback, EarlyStopping):
                _refuse_early_look(trainer, callback, validated, f"{where} watches {callback.monitor}")


def refuse_monitor(watching: Any, name: str, known: Sequence[str], choice: MetricChoice) -> None:
    """Refuse a metric that is not logged, or whose worst value is waited for.

    Args:
        watching: a schedule or callback, with `monitor` and perhaps `mode`.
        name: its name, for messages.
        known: what it may watch.
        choice: of metrics.

    Raises:
        ConfigurationError: naming what is logged.
    """
    monitor: str = watching.monitor
    where = f"{name} watches {monitor}"
    if monitor not in known:
        shown = ", ".join(name for name in known if name != "train/loss")
        if monitor in choice.watchable(validated=True):
            raise ConfigurationError(
                f"{where}, which no epoch logs, since nothing is validated: watch {shown}, or {_VALIDATE}"
            )
        raise ConfigurationError(f"{where}, which no epoch logs: watch {shown}")
    if (objection := choice.objection(monitor, getattr(watching, "mode", None))) is not None:
        raise ConfigurationError(f"{where}, {objection}")


def _refuse_early_look(trainer: lightning.Trainer, callback: EarlyStopping, validated: bool, where: str) -> None:
    """Refuse an EarlyStopping that looks when its metric is not there yet, or never looks."""
    every_epoch = trainer.check_val_every_n_epoch == 1
    chosen = callback._check_on_train_epoch_end
    at_epoch_end = (trainer.val_check_interval == 1.0 and every_epoch) if chosen is None else chosen
    if not at_epoch_end and not validated:
        raise ConfigurationError(
            f"{where} when a validation ends, and nothing is validated: set its check_on_train_epoch_end to true"
        )
    if not at_epoch_end and callback.monitor.startswith("train/"):
        raise ConfigurationError(
            f"{where} when a validation ends, before an epoch has logged it: set its check_on_train_epoch_end to true, "
            "or watch val/loss"
        )
    if at_epoch_end and callback.monitor.startswith("val/") and not every_epoch:
        raise ConfigurationError(
            f"{where} at the end of every epoch, and not every epoch validates: leave check_on_train_epoch_end out, or "
            "set --trainer.check_val_every_n_epoch 1"
        )
