"""Errors while Lightning restores a run from its checkpoint, in the user's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import lightning

from torchplug.errors import CheckpointError, TorchplugError


@contextmanager
def restore_errors(trainer: lightning.Trainer, file: str | None) -> Iterator[None]:
    """Turn an error into a `CheckpointError` where it comes before the state of a checkpoint is restored.

    Args:
        trainer: which fits in the block.
        file: the checkpoint that it resumes from, or None.

    Raises:
        CheckpointError: if the checkpoint's state does not fit the trainer, its callbacks or the optimizer.
    """
    try:
        yield
    except TorchplugError:
        raise
    except Exception as error:
        # Lightning holds the content until all of it is restored.
        if file is None or not trainer._checkpoint_connector._loaded_checkpoint:
            raise
        text = " ".join(str(error).split())
        raise CheckpointError(
            f"{file} cannot be gone on from: its state does not fit ({type(error).__name__}: {text})"
        ) from error
