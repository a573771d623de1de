"""A short training on copies of model and data, of which nothing is kept but what was measured."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.config import written_config
from torchplug.fitting.environment import as_found
from torchplug.fitting.trainer import build_trainer
from torchplug.module import ComponentModule
from torchplug.registry import registry
from torchplug.tracking.provenance import provenance
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.training.generators import generator_states, restore_generators
from torchplug.workflow.writing import write_method

_OWN = ("callbacks", "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches")
"""Parameters of the Trainer that a trial sets itself."""


@dataclass(frozen=True)
class Trials:
    """Short trainings of one configuration.

    Args:
        config: ComponentModule's parameters; its scheduler has no part in trials.
        data: the table.
        trainer: parameters of Lightning's Trainer; how long it trains is the trial's.
        seed: of each trial.
    """

    config: Mapping[str, Any]
    data: TabularData
    trainer: Mapping[str, Any]
    seed: int

    def module(self) -> ComponentModule:
        """A new module, with a copy of a network of the user's.

        Raises:
            ConfigurationError: for full-batch optimizers, which have neither learning rate nor batches.
        """
        config = {**self.config, "scheduler": None}
        if isinstance(config.get("model"), nn.Module):
            config["model"] = copy.deepcopy(config["model"])
        module = ComponentModule(**config)
        if module.resolved.is_full_batch:
            raise ConfigurationError(
                f"{module.resolved.optimizer.name} sees the whole training set: tune an optimizer for minibatches, "
                "such as adam"
            )
        return module

    def train(self, callback: Callback, batch_size: int | None = None, **limits: Any) -> ComponentModule:
        """Train from the seed until a limit or the callback ends it, and leave random generators as they are.

        Args:
            callback: measures.
            batch_size: rows per batch; None: the data's.
            limits: parameters of the Trainer that say how long.
        """
        module, data = self.module(), self.data.copied()
        if batch_size is not None:
            data.batch_size = batch_size
        device = torch.device("cpu")
        before = generator_states(device)
        try:
            torch.manual_seed(self.seed)
            own = {name: value for name, value in self.trainer.items() if name not in _OWN}
            settings = {**own, "limit_val_batches": 0, "enable_progress_bar": False, "callbacks": [callback], **limits}
            with as_found():
                build_trainer(settings).fit(module, datamodule=data)
        finally:
            restore_generators(before, device)
        return module

    def record(self, run: Run, method: str, options: Mapping[str, Any], tracking: Tracking) -> None:
        """Write settings and provenance into a run directory."""
        module = self.module()
        settings = written_config(module, self.data, self.trainer, tracking, self.seed)
        components = [component.entry for component in module.components]
        origins = provenance(registry().plugins, components, self.data.fingerprint, self.seed)
        write_method(run, {method: dict(options), **settings}, origins)
