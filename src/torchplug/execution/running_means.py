"""The loss as training goes by, added up on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
        self._deferred: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self._deferred_rows = 0
        self._since_row = _Sum(device)
        self._since_epoch = _Sum(device)

    def add(self, weighted: Tensor, rows: int) -> None:
        """Add a batch's Σ wℓ and its number of rows."""
        self.total.add_(weighted)
        self._rows += rows

    def go_on(self, total: Tensor, rows: int) -> None:
        """Add several batches' Σ wℓ, which somebody has added to `total` already, and their number of rows."""
        self.total.copy_(total)
        self._rows += rows

    def defer(self, scores: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """Add a batch's Σ wℓ when it is asked for; without weights where all are 1. No tensor may be changed."""
        self._deferred.append((scores, target, weight))
        self._deferred_rows += scores.shape[0]  # len() of a tensor takes longer
        if len(self._deferred) >= _DEFERRED_STEPS or self._deferred_rows >= _DEFERRED_ROWS:
            self._evaluate()

    def row(self) -> tuple[float, float]:
        """(Σ wℓ, n) since it was last asked. Every rank must call it."""
        self._settle()
        return self._since_row.taken(self._ranks)

    def epoch(self) -> tuple[float, float]:
        """(Σ wℓ, n) since it was last asked; rows go on across it. Every rank must call it."""
        self._settle()
        return self._since_epoch.taken(self._ranks)

    def state(self) -> dict[str, Any]:
        """Return the sums of this rank as plain data, from which `restore` continues with the same bits."""
        return {
            "open": (float(self.total), self._rows),
            "since_row": self._since_row.state(),
            "since_epoch": self._since_epoch.state(),
            "deferred": self._deferred_state(),
        }

    @staticmethod
    def check(state: Mapping[str, Any]) -> None:
        """Refuse what `state` cannot have returned.

        Raises:
            ValueError: if a sum is no pair of a number and a count, or what was left for later is no batches.
        """
        for name in ("open", "since_row", "since_epoch"):
            total, rows = state[name]
            if type(total) is not float or type(rows) is not int or rows < 0:
                raise ValueError(f"its sum {name} is no sum")
        if state["deferred"] is None:
            return
        scores, target, weight, counts = state["deferred"]
        tensors = [scores, target, *([] if weight is None else [weight])]
        whole = type(counts) is list and all(type(count) is int and count >= 0 for count in counts)
        if not whole or any(not isinstance(t, Tensor) or not t.ndim or len(t) != sum(counts) for t in tensors):
            raise ValueError("its batches that were left for later are no batches")

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned."""
        total, self._rows = state["open"]
        self.total.fill_(total)
        self._since_row.restore(*state["since_row"])
        self._since_epoch.restore(*state["since_epoch"])
        self._deferred.clear()
        if state["deferred"] is not None:
            scores, target, weight, counts = state["deferred"]
            parts = [torch.split(tensor.to(self.total.device), counts) for tensor in (scores, target)]
            weights = [None] * len(counts) if weight is None else torch.split(weight.to(self.total.device), counts)
            self._deferred.extend(zip(*parts, weights, strict=True))
        self._deferred_rows = sum(len(scores) for scores, _, _ in self._deferred)

    def _deferred_state(self) -> tuple[Tensor, Tensor, Tensor | None, list[int]] | None:
        """What was left for later, and the rows of each batch in it."""
        if not self._deferred:
            return None
        scores, targets, weights = zip(*self._deferred, strict=True)
        weight = _weights(scores, weights)
        counts = [len(each) for each in scores]
        return torch.cat(scores).cpu(), torch.cat(targets).cpu(), None if weight is None else weight.cpu(), counts

    def _evaluate(self) -> None:
        """Compute what was left for later."""
        if not self._deferred:
            return
        scores, targets, weights = zip(*self._deferred, strict=True)
        with torch.no_grad():
            values = self._loss(torch.cat(scores), torch.cat(targets))
            weight = _weights(scores, weights)
            if weight is not None:
                values = values * weight
            weighted = values.sum(dtype=torch.float64)
        self.add(weighted, self._deferred_rows)
        self._deferred.clear()
        self._deferred_rows = 0

    def _settle(self) -> None:
        """One addition per step is enough: the open sum belongs to both."""
        self._evaluate()
        for each in (self._since_row, self._since_epoch):
            each.total.add_(self.total)
            each.rows += self._rows
        self.total.zero_()
        self._rows = 0


def _weights(scores: Sequence[Tensor], weights: Sequence[Tensor | None]) -> Tensor | None:
    """The weights of several batches, one after the other; None where all are 1."""
    if all(weight is None for weight in weights):
        return None
    return torch.cat([torch.ones_like(s[:, 0]) if w is None else w for s, w in zip(scores, weights, strict=True)])


class _Sum:
    """Σ wℓ on the device, and the rows that are in it."""

    def __init__(self, device: torch.device) -> None:
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.rows = 0

    def state(self) -> tuple[float, int]:
        """Return what this rank has of both."""
        return float(self.total), self.rows

    def restore(self, total: float, rows: int) -> None:
        """Continue from what `state` returned."""
        self.total.fill_(total)
        self.rows = rows

    def taken(self, ranks: Ranks) -> tuple[float, float]:
        """Both over all ranks; and begin anew."""
        total, rows = self.total, float(self.rows)
        if ranks.world > 1:
            both = torch.stack([total, torch.full_like(total, rows)])
            ranks.all_reduce_sum(both)
            found = both.tolist()
        else:
            found = [total.item(), rows]
        total.zero_()
        self.rows = 0
        return found[0], found[1]
