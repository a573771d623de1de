"""Checkpoint files that are written at most once a second."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from torchplug.tracking.checkpoint_io import ChecksummedCheckpointIO
from torchplug.tracking.snapshot import snapshot
from torchplug.training.lightning_internals import ends_with_epoch

INTERVAL_SECONDS = 1.0
"""The least time between two writings of a file: what a killed process may lose beside its last epoch."""
COPY_SECONDS = 0.1
"""The least time between two copies of last.ckpt's state: what an exception may cost beside its epoch."""


class ThrottledCheckpointIO(ChecksummedCheckpointIO):
    """A `CheckpointIO` that writes each file of a run at most once a second, and keeps its later states in memory.

    A state that was saved waits until the file is saved again after the interval, or until `stop_waiting`. Files that
    wait are written in their order, so that one may refer to those before it: after a kill at any time, what it refers
    to is on disk. Other files are written at once.

    Args:
        files: the run's, each after those that it refers to.
        clock: returns seconds, and never goes back.

    Example:
        >>> io = ThrottledCheckpointIO([Path("checkpoints/best.ckpt"), Path("checkpoints/last.ckpt")])
    """

    def __init__(self, files: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._files = list(files)
        self._by_name = {spell(file): file for file in files for spell in (str, os.path.realpath)}  # as Lightning does
        self._clock = clock
        self._written = dict.fromkeys(files, clock())
        self._saved: dict[Path, float] = {}
        self._waiting: dict[Path, dict[str, Any]] = {}
        self._spare: dict[Path, Any] = {}
        self._throttles = True

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint, or keep a copy that waits.

        Raises:
            WriteError: if a file cannot be written; it is then unchanged, and nothing waits any more.
        """
        file = self._by_name.get(str(path)) if storage_options is None else None
        if file is None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        if self._is_due(file):
            self._waiting[file] = checkpoint
            self._write(self._files[: self._files.index(file) + 1])
        else:
            copy = snapshot(checkpoint, self._spare.get(file))  # an exception within leaves whole what waits
            self._spare[file], self._waiting[file] = self._waiting.get(file), copy
        self._saved[file] = self._clock()

    def can_skip(self, path: str | Path) -> bool:
        """Whether a newer state of a file may be left out: it would not be written yet, and one was just saved."""
        file = self._by_name.get(str(path))
        if file not in self._saved or self._is_due(file):
            return False
        return self._clock() - self._saved[file] < COPY_SECONDS

    @override
    def load_checkpoint(self, path: str | Path, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint, after what waits was written.

        Raises:
            CheckpointError: if the file is missing or damaged.
            WriteError: if a file that waits cannot be written.
        """
        self.write_waiting()
        return super().load_checkpoint(path, *arguments, **options)

    @override
    def teardown(self) -> None:
        """Write what waits."""
        self.stop_waiting()
        super().teardown()

    def write_waiting(self) -> None:
        """Write what waits now.

        Raises:
            WriteError: if a file cannot be written; it is then unchanged, and nothing waits any more.
        """
        self._write(self._files)

    def stop_waiting(self) -> None:
        """Write what waits, and from now on every checkpoint at once.

        Raises:
            WriteError: if a file cannot be written; it is then unchanged, and nothing waits any more.
        """
        self._throttles = False
        self._spare.clear()
        self.write_waiting()

    def _is_due(self, file: Path) -> bool:
        """Whether neither the file nor one that refers to it, and would be written with it, was written lately."""
        latest = max(self._written[each] for each in self._files[self._files.index(file) :])
        return not self._throttles or self._clock() - latest >= INTERVAL_SECONDS

    def _write(self, files: Sequence[Path]) -> None:
        for file in files:
            if file not in self._waiting:
                continue
            try:
                super().save_checkpoint(self._waiting[file], file)
            except Exception:  # after a KeyboardInterrupt it still waits
                self._waiting.clear()  # later ones may refer to the one that failed
                raise
            del self._waiting[file]
            self._written[file] = self._clock()


class WriteAtEnd(Callback):
    """Callback that writes a run's checkpoints when training ends, also by an exception; it has to be the first.

    Callbacks after it find the files as they were last saved.
    """

    @override
    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        _stop_waiting(trainer)

    @override
    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        _stop_waiting(trainer)


def can_skip_saving(trainer: lightning.Trainer, path: str) -> bool:
    """Whether a trainer need not save a file's state now, because training goes on and a state was just saved.

    Ranks would decide by clocks of their own: several of them save every state.

    Args:
        trainer: of a fit under way, at the end of an epoch.
        path: the checkpoint file.
    """
    checkpoint_io = trainer.strategy.checkpoint_io
    if not isinstance(checkpoint_io, ThrottledCheckpointIO) or trainer.world_size > 1:
        return False
    return not ends_with_epoch(trainer) and checkpoint_io.can_skip(path)


def _stop_waiting(trainer: lightning.Trainer) -> None:
    checkpoint_io = trainer.strategy.checkpoint_io
    if isinstance(checkpoint_io, ThrottledCheckpointIO):
        checkpoint_io.stop_waiting()
