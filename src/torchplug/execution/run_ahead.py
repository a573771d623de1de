"""Several optimizer steps per call of Lightning's: all but the last are made without it.

`RunAhead` stands between the loader and the trainer: it trains on the leading batches of each group and passes the
last one on as an ordinary batch. Automatic optimization stays on; batch index, closure, hooks, clipping, DDP and
schedules of that last step are Lightning's own, and the steps before it have the same effects in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from lightning.pytorch.callbacks import LearningRateMonitor

from torchplug.batch import Batch, Groups, Rows, StepGroup
from torchplug.execution.grouping import steps_per_graph, steps_until_a_look
from torchplug.execution.lightning_internals import advance, step_schedules, write_row
from torchplug.execution.minibatch_fit import MinibatchFit
from torchplug.execution.stopping import StepBoundaries
from torchplug.execution.uninterrupted import uninterrupted


class RunAhead:
    """Makes optimizer steps between two of Lightning's.

    Args:
        fit: by minibatches.
        most: how many steps a call makes where nobody looks, Lightning's own included.
        boundary: on several ranks, after how many steps they ask each other whether a signal asks for the end.
    """

    def __init__(self, fit: MinibatchFit, most: int, boundary: int = 1) -> None:
        self._fit = fit
        self._trainer = trainer = fit.trainer
        self._most = most
        self._boundaries = StepBoundaries(trainer, boundary)
        self._per_graph = steps_per_graph(trainer, most)
        self._uncounted = 0
        self._update: Callable[[], object]
        self._monitors = [c for c in trainer.callbacks if isinstance(c, LearningRateMonitor)]  # type: ignore[attr-defined]
        self._scheduled = any(c.interval == "step" and not c.reduce_on_plateau for c in trainer.lr_scheduler_configs)
        self._clip = self._clip_gradient if trainer.gradient_clip_val else None

    def __call__(self, groups: Groups) -> Iterator[Batch]:
        """Train on the leading batches of each group, and yield its last."""
        for group in groups(lambda: steps_until_a_look(self._trainer, self._most)):
            if group.leading:
                self._fit.layout.attach()
                self._fit.stepper.engine.renew()
                with self._fit.processor:
                    self._train(group)
            yield group.last()

    def _train(self, group: StepGroup) -> None:
        self._uncounted = 0
        self._boundaries.begin()
        self._update = self._fit.layout.update.leanest()
        between = self._clip is not None or self._scheduled  # something that is no part of a graph
        at_once = self._per_graph if not between and self._fit.stepper.can_fuse() else 1
        try:
            with torch.no_grad():
                self._make_steps(group, at_once)
        finally:  # also after Ctrl-C: what is saved now must know of the steps that were made
            self._count()

    def _make_steps(self, group: StepGroup, at_once: int) -> None:
        """Make the steps, so many at a time where no row comes between them."""
        done = 0
        while done < group.leading:
            left = group.leading - done
            if at_once > 1 and group.aligned and at_once <= min(left, self._fit.log.until_row()):
                if self._all_at_once(group.several(done, at_once), at_once):
                    done += at_once
                    self._boundaries.pass_one(at_once)
                    continue
                at_once = 1
            count = left if at_once == 1 else 1
            for chunk in group.chunks(done, count, self._place):
                for batch in chunk.batches:
                    self._step(batch, chunk.uniform)
                    self._boundaries.pass_one()
            done += count

    def _all_at_once(self, rows: Rows, count: int) -> bool:
        take = self._fit.stepper.try_fused(rows, count)
        if take is None:
            return False
        with uninterrupted():
            due = take()
            self._uncounted += count - due
        if due:
            try:
                self._begin_row()
                write_row(self._trainer, self._fit.row())
            finally:
                self._uncounted += 1
        return True

    def _step(self, batch: Batch, uniform: bool) -> None:
        fit = self._fit
        due = fit.log.begin(fit.log.step + 1)
        if due:
            self._begin_row()
        fit.stepper.step(batch, uniform, self._update, self._clip)
        try:
            if due:
                write_row(self._trainer, fit.row())
        finally:
            self._uncounted += 1  # after the row, which has the number of steps before it
        if self._scheduled:
            self._count()
            step_schedules(self._trainer)

    def _begin_row(self) -> None:
        self._count()
        for monitor in self._monitors:
            monitor.on_train_batch_start(self._trainer, self._trainer.lightning_module)

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
