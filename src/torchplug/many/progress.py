"""How far each model of a program has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from torchplug.registry.component import Outcome


class Progress:
    """Epochs, metrics and outcomes of K models, and which of them still train.

    Args:
        models: K.

    Attributes:
        active: which still train, (K,) bool.
        epochs: whole epochs of each, (K,).
        metrics: of the last epoch that each trained in, (K,) float64 by name.
        outcomes: of models that ended before the last epoch.
    """

    def __init__(self, models: int) -> None:
        self.active = torch.ones(models, dtype=torch.bool)
        self.epochs = torch.zeros(models, dtype=torch.int64)
        self.metrics: dict[str, Tensor] = {}
        self.outcomes: dict[int, Outcome] = {}

    def going(self) -> list[int]:
        """The models that still train."""
        found: list[int] = self.active.nonzero().flatten().tolist()
        return found

    def note(self, name: str, values: Tensor, models: Tensor) -> None:
        """Take up a metric, (K,), of those models, (K,) bool, that have trained in an epoch."""
        values = values.double().cpu()
        before = self.metrics.get(name, torch.full_like(values, torch.nan))
        self.metrics[name] = torch.where(models, values, before)

    def end(self, model: int, outcome: Outcome) -> None:
        """One trains no more."""
        self.active[model] = False
        self.outcomes.setdefault(model, outcome)

    def keep(self, models: Sequence[int]) -> None:
        """Forget all models but these."""
        chosen = list(models)
        self.active, self.epochs = self.active[chosen], self.epochs[chosen]
        self.metrics = {name: values[chosen] for name, values in self.metrics.items()}
        self.outcomes = {i: self.outcomes[model] for i, model in enumerate(models) if model in self.outcomes}

    def metrics_of(self, model: int) -> dict[str, float]:
        """One model's; empty before its first epoch has ended."""
        if not self.epochs[model]:
            return {}
        return {name: float(values[model]) for name, values in self.metrics.items()}

    def outcome(self, model: int, planned: int, remedy: str) -> Outcome:
        """How one ended, of so many planned epochs.

        Args:
            model: which of the K.
            planned: epochs.
            remedy: how to go on if it was interrupted.
        """
        if model in self.outcomes:
            return self.outcomes[model]
        epochs = int(self.epochs[model])
        if epochs >= planned:
            return Outcome("limit", f"the trainer's {epochs} epochs are done", "raise max_epochs to go on")
        return Outcome("limit", f"interrupted after {epochs} epochs", remedy)

    def state(self) -> dict[str, Any]:
        """Plain types and tensors, for a checkpoint."""
        outcomes = {model: [own.name, own.reason, own.remedy] for model, own in self.outcomes.items()}
        return {"active": self.active, "epochs": self.epochs, "metrics": dict(self.metrics), "outcomes": outcomes}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.active, self.epochs = state["active"].clone(), state["epochs"].clone()
        self.metrics = {name: values.clone() for name, values in state["metrics"].items()}
        self.outcomes = {model: Outcome(*own) for model, own in state["outcomes"].items()}
