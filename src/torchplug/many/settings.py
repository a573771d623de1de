"""The Trainer's settings as a program of many models follows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping

from torchplug.many.program import Plan

_QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "use_distributed_sampler": False,
}
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
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = dict(given)
        self.keywords = {**given, **_QUIET}
        self.trainer = lightning.Trainer(**self.keywords)
        self.shows_progress = bool(given.get("enable_progress_bar", True))

    @property
    def obstacle(self) -> str | None:
        """Why no models can share a program under these settings; None if some may."""
        trainer = self.trainer
        unknown = [name for name in self._given if name not in _FOLLOWED]
        others = [callback for callback in self._callbacks if type(callback) is not EarlyStopping]
        if unknown:
            return f"the Trainer's setting {unknown[0]} is chosen"
        if others:
            return f"the callback {type(others[0]).__name__} watches a Trainer"
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
            early_stopping=[c for c in self._callbacks if isinstance(c, EarlyStopping)],
        )

    @property
    def _callbacks(self) -> list[Any]:
        given = self._given.get("callbacks") or []
        return list(given) if isinstance(given, list | tuple) else [given]
