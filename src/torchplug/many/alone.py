"""Models that cannot share a program, trained one by one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import lightning
import torch
from torch import nn

from torchplug.data.tabular import TabularData
from torchplug.errors import NonFiniteGradientError
from torchplug.fit_result import FitResult
from torchplug.interruption import Interrupted
from torchplug.many.configurations import Configuration
from torchplug.module import ComponentModule
from torchplug.registry.component import Outcome
from torchplug.training import StopAtBoundary
from torchplug.training.ending import trainer_outcome


def fit_alone(configuration: Configuration, data: TabularData, settings: Mapping[str, Any]) -> FitResult:
    """Train one configuration by Lightning's Trainer.

    Args:
        configuration: what is trained, from its seed.
        data: the tables.
        settings: of the Trainer; callbacks are copied.
    """
    given = dict(configuration.given)
    if isinstance(given.get("model"), nn.Module):
        given["model"] = copy.deepcopy(given["model"])
    callbacks = copy.deepcopy(settings.get("callbacks") or [])
    callbacks = [*(callbacks if isinstance(callbacks, list | tuple) else [callbacks]), StopAtBoundary()]
    trainer = lightning.Trainer(**{**settings, "callbacks": callbacks})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(configuration.seed)
        module = ComponentModule(**given)
        outcome = None
        try:
            trainer.fit(module, data)
        except NonFiniteGradientError as error:  # the others go on, as they do within a program
            outcome = Outcome("stalled", str(error))
        except Interrupted:
            epochs = trainer.current_epoch
            outcome = Outcome("limit", f"interrupted after {epochs} epochs", "fit again to train to the end")
    outcome = outcome or module.outcome or trainer_outcome(trainer)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return FitResult(metrics, outcome, lambda: module)
