"""The library itself, through Lightning's Trainer as a recipe sets it up."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from torchplug import ComponentModule, TabularData, use
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.run import Run
from training.problem import LEARNING_RATE, Problem, Trained

LOG_INTERVAL = 50
"""In steps: what recipes take unless told."""


class EpochClock(Callback):
    """When each epoch began, and the last one ended. It looks at no single batch, which would slow down training."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """One ends, one begins."""
        self._times.append(time.perf_counter())

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The last one has ended, with all that belongs to it."""
        self._times.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Of each epoch."""
        return [end - start for start, end in zip(self._times, self._times[1:], strict=False)]


def trainer_of(epochs: int, callbacks: Sequence[Callback], **options: Any) -> lightning.Trainer:
    """A trainer without what a benchmark has no use for: bar, summary and checkpoints."""
    return lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=LOG_INTERVAL,
        **options,
    )


def torchplug(
    problem: Problem,
    logging: bool = True,
    callbacks: Sequence[Callback] = (),
    ranks: int = 1,
    **execution: Any,
) -> Trained:
    """Train components by name through the Trainer.

    Args:
        problem: what to train on: all its rows, as they stand.
        logging: whether rows are written, as recipes do.
        callbacks: more of them.
        ranks: how many processes there are, this one included.
        execution: what is said about it; nothing: the defaults.
    """
    clock = EpochClock()
    callbacks = [clock, *callbacks]
    module = ComponentModule(problem.network, problem.cell.loss, use("adam", lr=LEARNING_RATE), **execution)
    data = TabularData(
        (problem.features, problem.target if problem.cell.loss == "mse" else problem.labels),
        split=[1, 0, 0],
        stratify=False,
        scale="none",
        standardize_target=False,
        batch_size=problem.cell.batch,
        shuffle=problem.shuffle,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(
            problem.epochs,
            callbacks,
            logger=JsonlLogger(Run.create("benchmark", folder)) if logging else False,
            devices=ranks,
            strategy="ddp" if ranks > 1 else "auto",
            use_distributed_sampler=False,
        )
        trainer.fit(module, data)
    assert module.network is not None
    return Trained(clock.seconds, module.network)
