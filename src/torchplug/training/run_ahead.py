"""Several optimizer steps per step of Lightning's: all but the last are made without it.

`RunAhead` is a generator between loader and trainer: it trains on the leading batches of each group and yields the
last one as an ordinary batch. Automatic optimization stays on; batch index, closure, hooks, clipping, DDP and
schedules of that last step are Lightning's own, and the steps before it have the same effects in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from lightning.pytorch.callbacks import LearningRateMonitor

from torchplug.batch import Batch, Groups, Rows, StepGroup
from torchplug.training.grouping import steps_per_graph, steps_until_event
from torchplug.training.lightning_internals import advance, step_schedules, write_row
from torchplug.training.minibatch_fit import MinibatchFit
from torchplug.training.stopping import StepBoundaries
from torchplug.training.uninterrupted import uninterrupted


class RunAhead:
    """Makes the optimizer steps between two of Lightning's.

    Args:
        fit: the minibatch fit.
        most: the most steps per call, Lightning's own included.
        boundary: on several ranks, after how many steps they check together for a stop signal.
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
        for group in groups(lambda: steps_until_event(self._trainer, self._most)):
            if group.leading:
                self._fit.layout.attach()
                self._fit.stepper.engine.renew()
                with self._fit.threads:
                    self._train(group)
            yield group.last()

    def _train(self, group: StepGroup) -> None:
        self._uncounted = 0
        self._boundaries.begin()
        self._update = self._fit.layout.update.leanest()
        between = self._clip is not None or self._scheduled  # which no graph contains
        fused = self._per_graph if not between and self._fit.stepper.can_fuse() else 1
        try:
            with torch.no_grad():
                self._make_steps(group, fused)
        finally:  # also after Ctrl-C: a checkpoint must count the steps that were made
            self._count()

    def _make_steps(self, group: StepGroup, fused: int) -> None:
        """Make the leading steps, fused where no row is due between them."""
        done = 0
        while done < group.leading:
            left = group.leading - done
            if fused > 1 and group.aligned and fused <= min(left, self._fit.log.until_row()):
                if self._run_fused(group.concatenated(done, fused), fused):
                    done += fused
                    self._boundaries.pass_one(fused)
                    continue
                fused = 1
            count = left if fused == 1 else 1
            for block in group.blocks(done, count, self._place):
                for batch in block.batches:
                    self._step(batch, block.uniform)
                    self._boundaries.pass_one()
            done += count

    def _run_fused(self, rows: Rows, count: int) -> bool:
        apply = self._fit.stepper.try_fused(rows, count)
        if apply is None:
            return False
        with uninterrupted():
            due = apply()
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
            self._uncounted += 1  # after the row, which is numbered by the steps before it
        if self._scheduled:
            self._count()
            step_schedules(self._trainer)

    def _begin_row(self) -> None:
        self._count()
        for monitor in self._monitors:
            monitor.on_train_batch_start(self._trainer, self._trainer.lightning_module)

    def _clip_gradient(self) -> None:
        """Clip the gradient as Lightning does, by the trainer's current settings."""
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
        # from pinned memory the copy overlaps with computation, while the host reads the next block
        return Rows(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in rows))
