"""Several optimizer steps per call of Lightning's: all but the last are made without it.

Asked for the next batch, the loader lets `RunAhead` train on the batches before it, and yields the last one as an
ordinary batch. Automatic optimization stays on; batch index, closure, hooks, clipping, DDP and schedules of that last
step are Lightning's own, and the steps before it have the same effects in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LearningRateMonitor

from torchplug.batch import Batch, Chunk, Rows
from torchplug.execution.calls import steps_until_a_look
from torchplug.execution.progress import advance, write_row


class Chunks(Protocol):
    """A loader that also gives several batches at once."""

    def chunks(self, position: int, count: int, place: Callable[[Rows], Rows]) -> Iterator[Chunk]:
        """The `count` batches from a position of the epoch on."""


class Steps(Protocol):
    """What a step is: `Minibatches`."""

    def begin_step(self) -> bool:
        """Count the step; returns whether a row is due after it."""

    def step(
        self, batch: Batch, uniform: bool, update: Callable[[], object], clip: Callable[[], object] | None
    ) -> None:
        """Make it, called without a graph: gradient, clipping and the optimizer's update, guarded."""

    def leanest_update(self) -> Callable[[], object]:
        """The optimizer's part of it."""

    def row(self) -> dict[str, float]:
        """The row to log."""


class RunAhead:
    """Makes optimizer steps between two of Lightning's.

    Args:
        trainer: whose fit it is.
        execution: what a step is.
        most: how many steps a call makes where nobody looks, Lightning's own included.
    """

    def __init__(self, trainer: Trainer, execution: Steps, most: int) -> None:
        self._trainer = trainer
        self._execution = execution
        self._most = most
        self._uncounted = 0
        self._update: Callable[[], object]
        self._monitors = [c for c in trainer.callbacks if isinstance(c, LearningRateMonitor)]  # type: ignore[attr-defined]
        self._scheduled = any(c.interval == "step" and not c.reduce_on_plateau for c in trainer.lr_scheduler_configs)
        self._clip = self._clip_gradient if trainer.gradient_clip_val else None

    def __call__(self, loader: Chunks, position: int) -> int:
        """Train on the batches before the next one that Lightning is to see; returns how many."""
        count = steps_until_a_look(self._trainer, self._most) - 1
        if count < 1:
            return 0
        self._uncounted = 0
        self._update = self._execution.leanest_update()
        try:
            with torch.no_grad():
                for chunk in loader.chunks(position, count, self._place):
                    for batch in chunk.batches:
                        self._step(batch, chunk.uniform)
        finally:  # also after Ctrl-C: what is saved now must know of the steps that were made
            self._count()
        return count

    def _step(self, batch: Batch, uniform: bool) -> None:
        execution = self._execution
        due = execution.begin_step()
        if due:
            self._count()
            for monitor in self._monitors:
                monitor.on_train_batch_start(self._trainer, self._trainer.lightning_module)
        execution.step(batch, uniform, self._update, self._clip)
        try:
            if due:
                write_row(self._trainer, execution.row())
        finally:
            self._uncounted += 1  # after the row, which has the number of steps before it
        if self._scheduled:
            self._count()
            self._trainer.fit_loop.epoch_loop.update_lr_schedulers("step", update_plateau_schedulers=False)

    def _clip_gradient(self) -> None:
        """As Lightning does, by what the trainer says now."""
        trainer = self._trainer
        trainer.lightning_module.configure_gradient_clipping(
            trainer.optimizers[0], trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        )

    def _count(self) -> None:
        if self._uncounted:
            advance(self._trainer, self._uncounted)
            self._uncounted = 0

    def _place(self, rows: Rows) -> Rows:
        device = self._trainer.strategy.root_device
        if device.type == "cpu":
            return rows
        # from pinned memory the copy goes on while the device computes, and the host reads the next chunk
        return Rows(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in rows))
