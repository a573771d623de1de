"""How data becomes optimizer steps.

An execution strategy is a small object to which `ComponentModule`'s hooks delegate; `Minibatches`
is the one there is. Another one offers the same methods and is chosen in `ComponentModule.setup`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from torchplug.batch import Batch
from torchplug.errors import ConfigurationError
from torchplug.gradient_guard import GradientGuard
from torchplug.objective import Objective


class Minibatches:
    """One optimizer step per minibatch, or per accumulation window of minibatches.

    The sums behind `train/loss` stay on the device: a logged row costs one synchronization, a step
    none.
    """

    def __init__(self) -> None:
        self._objective: Objective
        self._trainer: Trainer
        self._guard: GradientGuard | None = None
        self._switch: Any = None
        self._parameters: list[nn.Parameter] = []
        self.since_row: RunningMean
        self.since_epoch: RunningMean

    def refuse(self, network: nn.Module, loader: Any) -> None:
        """Refuse what would fail or train wrongly, before the first step.

        Raises:
            ConfigurationError: if batch normalization would see a batch of one row.
        """
        normalizes = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
        smallest = getattr(loader, "smallest_batch", None)
        if normalizes and smallest is not None and smallest < 2:
            raise ConfigurationError(
                f"batch normalization needs at least 2 rows in every batch, and the smallest here has {smallest}: "
                "choose another batch_size, or batch_norm: false"
            )

    def start(self, trainer: Trainer, objective: Objective) -> None:
        """Take up a fit whose parameters and optimizer are in place."""
        self._trainer, self._objective = trainer, objective
        optimizer = trainer.optimizers[0]
        self._switch = optimizer if hasattr(optimizer, "train") and hasattr(optimizer, "eval") else None
        named = [(name, p) for name, p in trainer.lightning_module.named_parameters() if p.requires_grad]
        self._parameters = [parameter for _, parameter in named]
        # fp16's GradScaler skips the steps whose gradient overflows: that is how it works.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        self._guard = None if scaled else GradientGuard(named)
        device = self._parameters[0].device
        self.since_row, self.since_epoch = RunningMean(device), RunningMean(device)

    def training_step(self, batch: Batch) -> Tensor:
        """What this rank backpropagates: its share, scaled for Lightning and DDP."""
        if self._switch is not None:
            self._switch.train()
        trainer = self._trainer
        value, weighted = self._objective.share(batch, trainer.world_size, trainer.accumulate_grad_batches)
        self.since_row.add(weighted, len(batch.weight))
        self.since_epoch.add(weighted, len(batch.weight))
        return value

    def before_update(self) -> None:
        """The reduced, unscaled gradient is there; clipping and the update are to come."""
        if self._guard is not None:
            self._guard.inspect(self._trainer.global_step + 1)

    def optimizer_step(self, step: Callable[[], Any]) -> None:
        """Run the update; outside of it, parameters stand where they are to be evaluated."""
        self.evaluate_here()
        with self._guard.protect() if self._guard is not None else nullcontext():
            step()
            self.evaluate_here()

    def look(self) -> None:
        """Raise what the device has recorded.

        Raises:
            NonFiniteGradientError: if a gradient was not finite.
        """
        if self._guard is not None:
            trainer = self._trainer
            self._guard.raise_if_tripped(math.ceil(trainer.num_training_batches / trainer.accumulate_grad_batches))

    def evaluate_here(self) -> None:
        """Put the parameters where they are to be evaluated, also in the middle of a window."""
        if self._switch is not None:
            self._switch.eval()


class RunningMean:
    """(1/n) Σ wℓ over what was added since the last `take`, over all ranks."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._rows = 0

    def add(self, weighted: Tensor, rows: int) -> None:
        """Add a batch's Σ wℓ and its number of rows."""
        self._sums[0] += weighted
        self._rows += rows

    def take(self, trainer: Trainer) -> Tensor:
        """The mean, and start anew. Every rank must call it."""
        self._sums[1] = self._rows
        total = trainer.strategy.reduce(self._sums.clone(), reduce_op="sum")
        self._sums.zero_()
        self._rows = 0
        return total[0] / total[1]
