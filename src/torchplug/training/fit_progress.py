"""The progress of a fit as a checkpoint records it: enough to resume bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from torchplug.errors import CheckpointError
from torchplug.training.generators import generator_states, restore_generators
from torchplug.training.lightning_internals import restore_metrics
from torchplug.training.resumption import Position, make_up_for, rewrite_loops
from torchplug.training.running_means import RunningMeans
from torchplug.training.strategy import Fit

_LOGGER = logging.getLogger(__name__)


def check_record(record: Mapping[str, Any]) -> None:
    """Refuse a malformed record of `FitProgress.state` before anything is restored from it.

    Raises:
        ValueError: naming the part that is malformed.
    """
    example = generator_states(torch.device("cpu"))
    try:
        Position.from_plain(record["position"])
        if type(record["steps"]) is not int or record["steps"] < 0 or type(record["validated_in_epoch"]) is not bool:
            raise ValueError("its steps are no count")
        if any(type(value) is not float for value in record["metrics"].values()):
            raise ValueError("its metrics are no numbers")
        if not record["ranks"]:
            raise ValueError("it has no ranks")
        for rank in record["ranks"]:
            states = rank["generators"]
            if any(states[name].dtype != state.dtype for name, state in example.items()):
                raise ValueError("its generators are no states of generators")
            if any(states[name].shape != example[name].shape for name in ("torch", "numpy", "python")):
                raise ValueError("its generators are no states of generators")
            _check_execution(rank["execution"])
    except (LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"{error!r}") from error


def _check_execution(state: Mapping[str, Any]) -> None:
    if not isinstance(state, Mapping):
        raise ValueError("its sums are no sums")
    if not state:  # of a full-batch optimizer
        return
    RunningMeans.check(state["means"])
    if type(state["row_at"]) is not int or not isinstance(state["optimizer"], Mapping | None):
        raise ValueError("its rows and its optimizer's state are malformed")


class FitProgress:
    """Position, random generators, running sums and last metrics of a fit.

    A checkpoint has the generators and sums of every rank. Resuming on another number of ranks resets both.
    """

    def __init__(self) -> None:
        self._validated_at = (-1, -1)  # epochs started, and batches processed in total
        self._ended_epoch = -1
        self._at_window: dict[str, Any] | None = None
        self._resumed: tuple[Position, Mapping[str, Any]] | None = None
        self._metrics: dict[str, Tensor] = {}

    def batch_begins(self, trainer: Trainer, fit: Fit) -> None:
        """Record the state at the start of an accumulation window: an interrupted window is repeated as a whole."""
        window = trainer.accumulate_grad_batches
        if window > 1 and _batches_of_epoch(trainer) % window == 0:
            self._at_window = self._own(trainer, fit)

    def validated(self, trainer: Trainer) -> None:
        """Record the end of a validation."""
        self._validated_at = (trainer.fit_loop.epoch_progress.current.ready, _batches(trainer))

    def epoch_ended(self, trainer: Trainer) -> None:
        """Record that an epoch has ended, with the hooks after its last batch."""
        self._ended_epoch = trainer.fit_loop.epoch_progress.current.ready

    def validated_in_epoch(self, trainer: Trainer) -> bool:
        """Whether the current epoch has had a validation."""
        return self._validated_at[0] == trainer.fit_loop.epoch_progress.current.ready

    def state(self, trainer: Trainer, fit: Fit) -> dict[str, Any] | None:
        """Return the record for a checkpoint, None before the first epoch; collective."""
        if self._resumed is not None:  # a fit with nothing left to do keeps its record
            return dict(self._resumed[1])
        position = Position.of(
            trainer,
            validated=self._validated_at[1] == _batches(trainer),
            ended=self._ended_epoch == trainer.fit_loop.epoch_progress.current.ready,
        )
        if position is None:
            return None
        within_window = position.batches != _batches_of_epoch(trainer)
        own = self._at_window if within_window else self._own(trainer, fit)
        return {
            "position": list(position),
            "steps": trainer.global_step,
            "validated_in_epoch": self.validated_in_epoch(trainer),
            "metrics": {name: float(value) for name, value in trainer.callback_metrics.items()},
            "ranks": _gathered(own, trainer.world_size),
        }

    def load(self, record: Mapping[str, Any] | None, loops: dict[str, Any]) -> None:
        """Make a trainer that restores a checkpoint resume at the recorded position.

        Args:
            record: as returned by `state`; None for a fit that had not begun.
            loops: the checkpoint's counters of the fit loop, which the trainer restores next; changed in place.

        Raises:
            CheckpointError: if the record cannot be read.
        """
        if record is None:
            return
        try:
            position = Position.from_plain(record["position"])
            rewrite_loops(loops, position, record["steps"])
            self._ended_epoch = position.epoch + 1 if position.stage == "ended" else -1
            if record["validated_in_epoch"] and position.stage != "ended":
                total = loops["epoch_loop.batch_progress"]["total"]["processed"]
                self._validated_at = (position.epoch + 1, total if position.stage == "validated" else -1)
            self._metrics = {name: torch.tensor(v, dtype=torch.float64) for name, v in record["metrics"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(error) from error
        self._resumed = position, record

    def restore_metrics(self, trainer: Trainer) -> None:
        """Restore the last metrics for callbacks; in `on_fit_start`, because Lightning clears them before."""
        restore_metrics(trainer, self._metrics)

    def resume(self, trainer: Trainer, fit: Fit) -> None:
        """Restore this rank's generators and sums, and complete what was outstanding; in `on_train_start`."""
        resumed, self._resumed, self._metrics = self._resumed, None, {}
        if resumed is None:
            return
        position, record = resumed
        ranks = record["ranks"]
        if len(ranks) == trainer.world_size:
            own = ranks[trainer.global_rank]
            try:
                restore_generators(own["generators"], trainer.strategy.root_device)
                fit.restore(own["execution"])
            except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
                raise _damaged(error) from error
        elif trainer.is_global_zero:
            _LOGGER.info(
                "the checkpoint is of %d ranks, and now there are %d: random generators and running means are reset",
                len(ranks),
                trainer.world_size,
            )
        make_up_for(trainer, position)

    def _own(self, trainer: Trainer, fit: Fit) -> dict[str, Any]:
        """Return this rank's state, from which it resumes bit for bit."""
        return {"generators": generator_states(trainer.strategy.root_device), "execution": fit.state()}


def _damaged(error: Exception) -> CheckpointError:
    return CheckpointError(f"the checkpoint's progress cannot be read ({error!r}): it is damaged")


def _batches(trainer: Trainer) -> int:
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    count: int = progress.total.processed
    return count


def _batches_of_epoch(trainer: Trainer) -> int:
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    count: int = progress.current.processed
    return count


def _gathered(own: Any, world: int) -> list[Any]:
    """Return every rank's object, by rank."""
    if world == 1:
        return [own]
    found: list[Any] = [None] * world
    torch.distributed.all_gather_object(found, own)
    return found
