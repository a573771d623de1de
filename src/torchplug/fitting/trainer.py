"""Lightning's Trainer as a command asks for it, with what Lightning itself would notice too late refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar, Timer
from lightning.pytorch.profilers import PassThroughProfiler
from typing_extensions import override

from torchplug.errors import ConfigurationError
from torchplug.processes.slurm import is_slurm_task
from torchplug.tracking.checkpoint_io import ChecksummedCheckpointIO

NOT_SETTABLE = frozenset({"logger", "use_distributed_sampler", "enable_checkpointing", "default_root_dir"})
"""Parameters of the Trainer that follow from the run directory and the data module's own sampler."""

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


class NoProfiler(PassThroughProfiler):
    """Lightning's profiler that measures nothing, without building a context manager around each of its hooks."""

    @override
    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return _NOTHING


_NOTHING = nullcontext()


class ProgressBar(RichProgressBar):
    """Lightning's, without what a terminal of 80 columns has no room for."""

    @override
    def get_metrics(self, *arguments: Any) -> Any:
        metrics = super().get_metrics(*arguments)
        metrics.pop("v_num", None)
        return metrics


def build_trainer(settings: Mapping[str, Any]) -> lightning.Trainer:
    """The trainer that the settings ask for, without loggers.

    Args:
        settings: parameters of Lightning's Trainer, with objects where they are classes. A progress bar is shown where
            `enable_progress_bar` is true.

    Raises:
        ConfigurationError: for values that cannot work, unknown strategies, and more devices than there are.
    """
    refuse_out_of_range(settings)
    chosen = dict(settings)
    callbacks = chosen.pop("callbacks", None) or []
    callbacks = list(callbacks) if isinstance(callbacks, list) else [callbacks]
    watched = bool(chosen.pop("enable_progress_bar", None))
    if watched:
        callbacks.append(ProgressBar(refresh_rate=10))
    chosen.update(callbacks=callbacks, enable_progress_bar=watched, logger=False, use_distributed_sampler=False)
    if chosen.get("profiler") is None:
        chosen["profiler"] = NoProfiler()
    chosen["enable_model_summary"] = bool(chosen.get("enable_model_summary"))
    chosen["enable_checkpointing"] = any(isinstance(callback, Checkpoint) for callback in callbacks)
    chosen.setdefault("num_sanity_val_steps", 0)  # what it would find is checked before any rank starts
    try:
        trainer = lightning.Trainer(**chosen)
    except (MisconfigurationException, ValueError, TypeError, ImportError, RuntimeError, KeyError) as error:
        raise ConfigurationError(f"--trainer: {' '.join(str(error).split())}") from error
    _refuse_crowding(trainer)
    _refuse_other_world(trainer.world_size, os.environ)
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # nothing else was asked for
        trainer.strategy.checkpoint_io = ChecksummedCheckpointIO()
    _refuse_no_time(trainer)
    return trainer


def refuse_out_of_range(settings: Mapping[str, Any]) -> None:
    """Refuse numbers that no training can have.

    Args:
        settings: parameters of Lightning's Trainer.

    Raises:
        ConfigurationError: naming the setting and its range.
    """
    for name, (works, range_) in _RANGES.items():
        value = settings.get(name)
        if value is not None and not works(value):
            raise ConfigurationError(f"--trainer.{name} must be {range_}, not {value}")
    for unit in ("epochs", "steps"):
        least, most = settings.get(f"min_{unit}"), settings.get(f"max_{unit}")
        if least is not None and most is not None and 0 <= most < least:
            raise ConfigurationError(f"--trainer.min_{unit} {least} is above --trainer.max_{unit} {most}")


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


def _refuse_other_world(ranks: int, environment: Mapping[str, str]) -> None:
    """Refuse a launcher's variables for another number of ranks than training has: they would wait for each other.

    Args:
        ranks: how many processes train, by the Trainer's devices and nodes.
        environment: the variables.

    Raises:
        ConfigurationError: naming both numbers.
    """
    started = int(environment.get("WORLD_SIZE", "1"))
    if "LOCAL_RANK" in environment and not is_slurm_task(environment) and started != ranks:
        raise ConfigurationError(
            f"LOCAL_RANK and WORLD_SIZE in the environment are those of {started} started process"
            f"{'es' if started > 1 else ''}, and --trainer.devices and num_nodes ask for {ranks}: "
            f"set --trainer.devices to {started}, or unset the variables"
        )
