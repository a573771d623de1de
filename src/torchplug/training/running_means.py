"""Running means of the training loss, accumulated on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from torchplug.components.contracts import Loss
from torchplug.objective.reductions import Ranks

_DEFERRED_STEPS = 128
_DEFERRED_ROWS = 2**16


class RunningMeans:
    """Σ wℓ and n over all ranks, since the last row and since the epoch's start, accumulated in float64.

    Analytic gradients need no loss value, so its computation is deferred: for many steps at once it costs next to
    nothing. When it happens depends only on the numbers of steps and rows, and so do its bits.

    Attributes:
        total: Σ wℓ, on the device, that has not been added to either sum yet.
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

    def advance_total(self, total: Tensor, rows: int) -> None:
        """Set `total` to a value that includes several more batches' Σ wℓ, and add their number of rows."""
        self.total.copy_(total)
        self._rows += rows

    def defer(self, scores: Tensor, target: Tensor, weight: Tensor | None) -> None:
        """Add a batch's Σ wℓ later; `weight` is None where all are 1. The tensors must not be modified."""
        self._deferred.append((scores, target, weight))
        self._deferred_rows += scores.shape[0]  # len() of a tensor takes longer
        if len(self._deferred) >= _DEFERRED_STEPS or self._deferred_rows >= _DEFERRED_ROWS:
            self._evaluate()

    @contextmanager
    def ignoring(self) -> Iterator[None]:
        """Ignore batches that are added within."""
        self.add = self.defer = _ignore  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            del self.add, self.defer

    def row(self) -> tuple[float, float]:
        """Return (Σ wℓ, n) since the last call, and reset them; collective."""
        self._settle()
        return self._since_row.pop(self._ranks)

    def epoch(self) -> tuple[float, float]:
        """Return (Σ wℓ, n) of the epoch, and reset them; the sums of `row` are not affected. Collective."""
        self._settle()
        return self._since_epoch.pop(self._ranks)

    def state(self) -> dict[str, Any]:
        """Return this rank's sums as plain data, for `restore`."""
        return {
            "open": (float(self.total), self._rows),
            "since_row": self._since_row.state(),
            "since_epoch": self._since_epoch.state(),
            "deferred": self._deferred_state(),
        }

    @staticmethod
    def check(state: Mapping[str, Any]) -> None:
        """Refuse a malformed `state`.

        Raises:
            ValueError: if a sum is not a pair of a number and a count, or the deferred batches are malformed.
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
        """Restore what `state` returned."""
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
        """Return the deferred scores, targets and weights, and the rows of each batch; None if there are none."""
        if not self._deferred:
            return None
        scores, targets, weights = zip(*self._deferred, strict=True)
        weight = _weights(scores, weights)
        counts = [len(each) for each in scores]
        return torch.cat(scores).cpu(), torch.cat(targets).cpu(), None if weight is None else weight.cpu(), counts

    def _evaluate(self) -> None:
        """Compute the deferred losses."""
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
        """Add `total` to both sums; kept apart until then, so that a step costs one addition."""
        self._evaluate()
        for each in (self._since_row, self._since_epoch):
            each.total.add_(self.total)
            each.rows += self._rows
        self.total.zero_()
        self._rows = 0


def _ignore(*batch: object) -> None:
    """Take the place of `add` and `defer`."""


def _weights(scores: Sequence[Tensor], weights: Sequence[Tensor | None]) -> Tensor | None:
    """Return the concatenated weights of several batches; None where all are 1."""
    if all(weight is None for weight in weights):
        return None
    return torch.cat([torch.ones_like(s[:, 0]) if w is None else w for s, w in zip(scores, weights, strict=True)])


class _Sum:
    """Σ wℓ on the device and the number of its rows."""

    def __init__(self, device: torch.device) -> None:
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.rows = 0

    def state(self) -> tuple[float, int]:
        """Return this rank's part of both."""
        return float(self.total), self.rows

    def restore(self, total: float, rows: int) -> None:
        """Restore what `state` returned."""
        self.total.fill_(total)
        self.rows = rows

    def pop(self, ranks: Ranks) -> tuple[float, float]:
        """Return both over all ranks, and reset them."""
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
