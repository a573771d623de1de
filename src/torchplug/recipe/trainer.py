"""Lightning's Trainer as a command asks for it, with what Lightning itself would notice too late refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jsonargparse
import lightning
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar, Timer
from typing_extensions import override

from torchplug.errors import ConfigurationError
from torchplug.recipe.environment import refuse_other_world
from torchplug.recipe.parser import RecipeParser
from torchplug.tracking.checkpoint_io import ChecksummedCheckpointIO

_AT_LEAST_ONE = "a whole number of at least 1"
_RANGES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_epochs": (lambda value: value >= 1 or value == -1, f"{_AT_LEAST_ONE}, or -1 for no limit"),
    "max_steps": (lambda value: value >= 1 or value == -1, f"{_AT_LEAST_ONE}, or -1 for no limit"),
    "accumulate_grad_batches": (lambda value: value >= 1, _AT_LEAST_ONE),
    "check_val_every_n_epoch": (lambda value: value >= 1, _AT_LEAST_ONE),
    "min_epochs": (lambda value: value >= 0, "a whole number of at least 0"),
    "min_steps": (lambda value: value >= 0, "a whole number of at least 0"),
    "val_check_interval": (
        lambda value: not isinstance(value, int | float) or value > 0,
        "above 0: a number of batches, or a share of an epoch up to 1.0",
    ),
    "log_every_n_steps": (lambda value: value >= 0, "a whole number of at least 0"),
    "gradient_clip_val": (lambda value: value >= 0, "a number of at least 0"),
    "limit_train_batches": (lambda value: value > 0, "above 0: a number of batches, or a share up to 1.0"),
}
"""What Lightning takes without a word, and then fails on, or trains nothing with."""


class ProgressBar(RichProgressBar):
    """Lightning's, without what a terminal of 80 columns has no room for."""

    @override
    def get_metrics(self, *arguments: Any) -> Any:
        metrics = super().get_metrics(*arguments)
        metrics.pop("v_num", None)
        return metrics


def build_trainer(
    parser: RecipeParser, settings: jsonargparse.Namespace, progress_bar: bool = True
) -> lightning.Trainer:
    """The trainer that the settings ask for, without loggers.

    Args:
        parser: the subcommand's.
        settings: what it parsed.
        progress_bar: False where something else shows the progress.

    Raises:
        ConfigurationError: for values that cannot work, unknown strategies, and more devices than there are.
    """
    _refuse_out_of_range(settings.trainer)
    chosen = _instantiated(parser, settings)
    callbacks = chosen.pop("callbacks", None) or []
    callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
    watched = chosen.pop("enable_progress_bar", None) is not False and progress_bar and sys.stdout.isatty()
    if watched:
        callbacks.append(ProgressBar(refresh_rate=10))
    chosen.update(callbacks=callbacks, enable_progress_bar=watched, logger=False, use_distributed_sampler=False)
    chosen["enable_model_summary"] = bool(chosen.get("enable_model_summary"))
    chosen["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
    try:
        trainer = lightning.Trainer(**chosen)
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError, KeyError) as error:
        raise ConfigurationError(f"--trainer: {' '.join(str(error).split())}") from error
    _refuse_crowding(trainer)
    refuse_other_world(trainer.world_size)
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nothing else was asked for
        trainer.strategy.checkpoint_io = ChecksummedCheckpointIO()
    _refuse_no_time(trainer)
    return trainer


def _refuse_out_of_range(settings: jsonargparse.Namespace) -> None:
    for name, (works, range_) in _RANGES.items():
        value = settings.get(name)
        if value is not None and not works(value):
            raise ConfigurationError(f"--trainer.{name} must be {range_}, not {value}")
    for unit in ("epochs", "steps"):
        least, most = settings.get(f"min_{unit}"), settings.get(f"max_{unit}")
        if least is not None and most is not None and 0 <= most < least:
            raise ConfigurationError(f"--trainer.min_{unit} {least} is above --trainer.max_{unit} {most}")


def _instantiated(parser: RecipeParser, settings: jsonargparse.Namespace) -> dict[str, Any]:
    """The trainer's settings with objects where they name classes, such as callbacks."""
    try:
        return dict(vars(parser.instantiate(settings).trainer))
    except (MisconfigurationException, ValueError, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause.__cause__, Exception):  # the parser wraps what the class itself said
            cause = cause.__cause__
        raise ConfigurationError(f"--trainer: {' '.join(str(cause).split())}") from error


def _refuse_no_time(trainer: lightning.Trainer) -> None:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    limits = [callback._duration for callback in callbacks if isinstance(callback, Timer)]
    if any(limit is not None and limit <= 0 for limit in limits):
        raise ConfigurationError("--trainer.max_time leaves no time to train: give more than 00:00:00:00")


def _refuse_crowding(trainer: lightning.Trainer) -> None:
    """Lightning refuses GPUs that are not there; processes on the CPU it would start without end."""
    processors = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > processors:
        raise ConfigurationError(
            f"--trainer.devices {trainer.num_devices}: a process each, and this machine has {processors} "
            f"processor{'s' if processors > 1 else ''}: ask for at most {processors}"
        )
