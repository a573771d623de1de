"""The Trainer's settings as a program of many models follows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping

from torchplug.errors import ConfigurationError
from torchplug.fitting.environment import as_found
from torchplug.fitting.trainer import NOT_SETTABLE, refuse_out_of_range
from torchplug.many.program import Plan
from torchplug.many.stopping import WATCHED

_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "use_distributed_sampler": False,
}
_OFF = ("logger", "enable_checkpointing", "enable_model_summary")
"""What a program has none of."""
_FOLLOWED = {
    *_QUIET,
    "accelerator",
    "callbacks",
    "default_root_dir",
    "devices",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "log_every_n_steps",
    "max_epochs",
    "num_sanity_val_steps",
    "precision",
}
"""Those that a program follows, and those that change nothing of what is trained."""
_DTYPES = {"32-true": torch.float32, "64-true": torch.float64}


class TrainerSettings:
    """What the user has set of the Trainer, checked by building one.

    Args:
        given: by the names of the Trainer's parameters.

    Attributes:
        keywords: of a Trainer that writes and prints nothing.
        trainer: such a one.
        shows_progress: whether the user has not switched that off.

    Raises:
        ConfigurationError: for a setting that the Trainer refuses, or a number out of its range.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)
        refuse_out_of_range(given)
        self.keywords = {**_QUIET, **given, "enable_progress_bar": False}
        with as_found():
            try:
                self.trainer = lightning.Trainer(**self.keywords)
            except (TypeError, ValueError, MisconfigurationException) as error:
                raise ConfigurationError(f"trainer: {' '.join(str(error).split())}") from error
        self.shows_progress = bool(given.get("enable_progress_bar", True))

    @property
    def of_run(self) -> dict[str, Any]:
        """What is given to the Trainer of a model that has a run directory of its own."""
        left_out = (*NOT_SETTABLE, "enable_progress_bar", "callbacks")
        return {name: value for name, value in self._given.items() if name not in left_out}

    def refuse_in_run(self) -> None:
        """Refuse what follows from the run directory.

        Raises:
            ConfigurationError: naming the setting.
        """
        for name in sorted(NOT_SETTABLE - {"default_root_dir"}):
            if self._given.get(name):
                raise ConfigurationError(f"trainer: {name} follows from the run directory and the data: leave it out")

    @property
    def obstacle(self) -> str | None:
        """Why no models can share a program under these settings; None if some may."""
        trainer = self.trainer
        unknown = [name for name, value in self._given.items() if name not in _FOLLOWED or (name in _OFF and value)]
        others = [callback for callback in self.callbacks if type(callback) is not EarlyStopping]
        if unknown:
            return f"the Trainer's setting {unknown[0]} is chosen"
        if others:
            return f"the callback {type(others[0]).__name__} watches a Trainer"
        watched = [monitor for monitor in self.monitors if monitor not in WATCHED]
        if watched:
            return f"EarlyStopping watches {watched[0]}"
        if trainer.precision not in _DTYPES:
            return f"precision {trainer.precision} rounds within the network"
        if trainer.world_size > 1:
            return "there are several processes"
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            return "training has no planned end"
        return None

    def plan(self) -> Plan:
        """How a program trains, where there is no obstacle."""
        trainer: Any = self.trainer
        return Plan(
            epochs=trainer.max_epochs,
            device=trainer.strategy.root_device,
            dtype=_DTYPES[trainer.precision],
            clip=trainer.gradient_clip_val,
            clip_by_norm=str(getattr(trainer.gradient_clip_algorithm, "value", "norm") or "norm") == "norm",
            early_stopping=[c for c in self.callbacks if isinstance(c, EarlyStopping)],
        )

    @property
    def given(self) -> Mapping[str, Any]:
        """What the user has set."""
        return self._given

    @property
    def monitors(self) -> list[str]:
        """The metrics that EarlyStopping watches."""
        return [callback.monitor for callback in self.callbacks if isinstance(callback, EarlyStopping)]

    @property
    def callbacks(self) -> list[Any]:
        """Those that the user has given."""
        given = self._given.get("callbacks") or []
        return list(given) if isinstance(given, list | tuple) else [given]
