"""What methods that train many models ask of a configuration and of the Trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchplug.errors import ConfigurationError
from torchplug.many.configurations import Configuration, Configurations
from torchplug.many.settings import TrainerSettings


def unseeded(config: Mapping[str, Any], method: str) -> Configuration:
    """A configuration whose seed the method sets.

    Raises:
        ConfigurationError: if it has a seed, or cannot be trained.
    """
    if "seed" in config:
        raise ConfigurationError(f"config has no seed here: give seed to {method}")
    return Configurations().read(config)


def one_process(trainer: Mapping[str, Any], method: str) -> TrainerSettings:
    """The Trainer's settings, of one process.

    Raises:
        ConfigurationError: for others, or settings that the Trainer refuses.
    """
    settings = TrainerSettings(trainer)
    if settings.trainer.world_size > 1:
        raise ConfigurationError(f"{method} runs in one process: leave --trainer.devices at 1")
    return settings
