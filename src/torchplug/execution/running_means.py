"""The loss as training goes by, added up on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from torchplug.contracts import Loss
from torchplug.execution.averaging import Ranks

_DEFERRED_STEPS = 128
_DEFERRED_ROWS = 2**16


class RunningMeans:
    """Σ wℓ and n over all ranks, since the last row and since the epoch's start, added up in float64.

    Where the gradient is known without the loss's value, the value is left for later: computed for many steps at once
    it costs next to nothing. When it is computed hangs on the number of steps and rows alone, and so do its bits.

    Attributes:
        total: Σ wℓ of what belongs to both sums and was added to neither, on the device.
    """

    def __init__(self, device: torch.device, loss: Loss, ranks: Ranks) -> None:
        self._loss = loss
        self._ranks = ranks
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self._rows = 0
        self._deferred: list[tuple[Tensor, Tensor, Tensor]] = []
        self._deferred_rows = 0
        self._row = torch.zeros(2, dtype=torch.float64, device=device)
        self._epoch = torch.zeros_like(self._row)

    def add(self, weighted: Tensor, rows: int) -> None:
        """Add a batch's Σ wℓ and its number of rows."""
        self.total.add_(weighted)
        self._rows += rows

    def go_on(self, total: Tensor, rows: int) -> None:
        """Add several batches' Σ wℓ, which somebody has added to `total` already, and their number of rows."""
        self.total.copy_(total.view(()))
        self._rows += rows

    def defer(self, scores: Tensor, target: Tensor, weight: Tensor) -> None:
        """Add a batch's Σ wℓ when it is asked for; none of the tensors may be changed."""
        self._deferred.append((scores, target, weight))
        self._deferred_rows += scores.shape[0]  # len() of a tensor takes longer
        if len(self._deferred) >= _DEFERRED_STEPS or self._deferred_rows >= _DEFERRED_ROWS:
            self._evaluate()

    def row(self) -> Tensor:
        """(Σ wℓ, n) since it was last asked. Every rank must call it."""
        self._settle()
        return self._taken(self._row)

    def epoch(self) -> Tensor:
        """(Σ wℓ, n) since it was last asked; rows go on across it. Every rank must call it."""
        self._settle()
        return self._taken(self._epoch)

    def _evaluate(self) -> None:
        """Compute what was left for later."""
        if not self._deferred:
            return
        with torch.no_grad():
            scores, target, weight = (torch.cat(tensors) for tensors in zip(*self._deferred, strict=True))
            weighted = (self._loss(scores, target) * weight).sum(dtype=torch.float64)
        self.add(weighted, self._deferred_rows)
        self._deferred.clear()
        self._deferred_rows = 0

    def _settle(self) -> None:
        """One addition per step is enough: the open sum belongs to both."""
        self._evaluate()
        both = torch.stack([self.total, torch.full_like(self.total, self._rows)])
        self._row += both
        self._epoch += both
        self.total.zero_()
        self._rows = 0

    def _taken(self, sums: Tensor) -> Tensor:
        total = sums.clone()
        self._ranks.add_up(total)
        sums.zero_()
        return total
