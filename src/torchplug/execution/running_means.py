"""The loss as training goes by, added up on the device."""

from __future__ import annotations

import torch
from lightning.pytorch import Trainer
from torch import Tensor


class RunningMeans:
    """Σ wℓ and n over all ranks, since the last row and since the epoch's start, added up in float64."""

    def __init__(self, device: torch.device) -> None:
        self._open = torch.zeros((), dtype=torch.float64, device=device)
        self._rows = 0
        self._row = torch.zeros(2, dtype=torch.float64, device=device)
        self._epoch = torch.zeros_like(self._row)

    def add(self, weighted: Tensor, rows: int) -> None:
        """Add a batch's Σ wℓ and its number of rows."""
        self._open.add_(weighted)
        self._rows += rows

    def row(self, trainer: Trainer) -> Tensor:
        """(Σ wℓ, n) since it was last asked. Every rank must call it."""
        self._settle()
        return _taken(self._row, trainer)

    def epoch(self, trainer: Trainer) -> Tensor:
        """(Σ wℓ, n) since it was last asked; rows go on across it. Every rank must call it."""
        self._settle()
        return _taken(self._epoch, trainer)

    def _settle(self) -> None:
        """One addition per step is enough: the open sum belongs to both."""
        both = torch.stack([self._open, torch.full_like(self._open, self._rows)])
        self._row += both
        self._epoch += both
        self._open.zero_()
        self._rows = 0


def _taken(sums: Tensor, trainer: Trainer) -> Tensor:
    total: Tensor = trainer.strategy.reduce(sums.clone(), reduce_op="sum")
    sums.zero_()
    return total
