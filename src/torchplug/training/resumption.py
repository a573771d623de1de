"""The position of a fit in a checkpoint, and resuming from it exactly.

Lightning's counters say which of its hooks were running when a checkpoint was written, and its restart repeats or skips
some of what was outstanding: a validation, the end of an epoch, an epoch that `max_steps` cut short. A checkpoint of
this package therefore records a `Position` in terms of batches. When it is loaded, the counters are rewritten to say
that exactly these batches are done, and what was outstanding is made up for before the first step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

from lightning.pytorch import Trainer

from torchplug.training.lightning_internals import count_rows, start_next_epoch_afresh, validate, validation_is_due

Stage = Literal["trained", "validated", "ended"]


class Position(NamedTuple):
    """The position of a fit.

    Args:
        epoch: the epoch under way, counted from 0.
        batches: how many of its batches are done, accumulation windows whole.
        stage: `trained`: a validation that is due after these batches is outstanding; `validated`: it is done;
            `ended`: all batches and all that follows them in this epoch are done.
    """

    epoch: int
    batches: int
    stage: Stage

    @classmethod
    def of(cls, trainer: Trainer, validated: bool, ended: bool) -> Position | None:
        """Return a trainer's position; None before its first epoch.

        Args:
            trainer: of a fit under way, or just ended.
            validated: whether a validation has ended since the last batch.
            ended: whether the module's `on_train_epoch_end` has run since the last batch.
        """
        loop: Any = trainer.fit_loop
        epochs, batches = loop.epoch_progress.current, loop.epoch_loop.batch_progress.current
        if not epochs.ready:
            return None
        if epochs.started < epochs.ready:  # the hooks of an epoch's start are running
            return None if epochs.ready == 1 else cls(epochs.ready - 2, batches.processed, "ended")
        done: int = batches.processed
        if epoch_is_complete(trainer):
            return cls(epochs.ready - 1, done, "ended" if ended else _stage(validated))
        done -= done % trainer.accumulate_grad_batches
        return cls(epochs.ready - 1, done, _stage(validated))

    @classmethod
    def from_plain(cls, value: Any) -> Position:
        """Read what a checkpoint holds.

        Raises:
            ValueError: if it is not a position.
        """
        epoch, batches, stage = value
        counted = all(type(count) is int and count >= 0 for count in (epoch, batches))
        if not counted or stage not in get_args(Stage):
            raise ValueError(f"{value!r} is no position in a fit")
        return cls(epoch, batches, cast(Stage, stage))


def epoch_is_complete(trainer: Trainer) -> bool:
    """Whether every batch of the epoch under way is done: it may end early, as by `max_steps`."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    return bool(progress.is_last_batch or progress.current.processed >= trainer.num_training_batches)


def rewrite_loops(loops: dict[str, Any], position: Position, steps: int) -> None:
    """Make a checkpoint's counters of the fit loop say that exactly the batches before a position are done.

    Args:
        loops: the `fit_loop` part of a checkpoint's `loops`; changed in place.
        position: where the fit stands.
        steps: the optimizer steps before it.

    Raises:
        KeyError, TypeError, ValueError: if the counters or the steps are not what a trainer writes.
    """
    if type(steps) is not int or steps < 0:
        raise ValueError(f"{steps!r} is no number of steps")
    ended = position.stage == "ended"
    epochs = position.epoch + 1
    done = epochs if ended else position.epoch
    loops["epoch_progress"] = _both({"ready": epochs, "started": epochs, "processed": done, "completed": done})
    batches = loops["epoch_loop.batch_progress"]
    dropped = max(0, batches["current"]["processed"] - position.batches)
    loops["epoch_loop.batch_progress"] = {
        "total": _all(batches["total"]["processed"] - dropped),
        "current": _all(position.batches),
        "is_last_batch": bool(batches["is_last_batch"]) and not ended and not dropped,
    }
    loops["epoch_loop.val_loop.batch_progress"] = {**_both(_all(0)), "is_last_batch": False}
    loops["epoch_loop.state_dict"] = {"_batches_that_stepped": steps}


def make_up_for(trainer: Trainer, position: Position) -> None:
    """Complete what was outstanding at a position, before the trainer resumes; in `on_train_start`."""
    if position.stage == "ended":
        start_next_epoch_afresh(trainer)
        return
    if validation_is_due(trainer):
        count_rows(trainer, -1)  # rows of a validation, and what ends its batch, come before that count
        if position.stage == "trained":
            validate(trainer)
    if not epoch_is_complete(trainer):
        return
    if validation_is_due(trainer):
        count_rows(trainer, 1)
    start_next_epoch_afresh(trainer)
    trainer.fit_loop.on_advance_end()


def _stage(validated: bool) -> Stage:
    return "validated" if validated else "trained"


def _all(count: int) -> dict[str, int]:
    return dict.fromkeys(("ready", "started", "processed", "completed"), count)


def _both(progress: Mapping[str, int]) -> dict[str, Any]:
    return {"total": dict(progress), "current": dict(progress)}
