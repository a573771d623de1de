"""The process around a fit: seeds, Lightning's messages and the process group."""

from __future__ import annotations

import atexit
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from torchplug.errors import ConfigurationError

_LIGHTNING = ("lightning.pytorch", "lightning.fabric")
_LARGEST_SEED = 2**32 - 1
"""NumPy's."""
_NO_NEWS = (
    ".*LeafSpec.*is deprecated",  # Lightning's own use of torch
    "The number of training batches",  # rows are written by the step count, across epochs
    "Checkpoint directory .* exists and is not empty",  # a resumed run writes into its own directory
)
"""Warnings of Lightning that are no fault of the user's."""


def seed_generators(seed: int | None, setting: str = "seed") -> None:
    """Seed Python, NumPy and torch; None leaves them as they are.

    Args:
        seed: from 0 to 2³² − 1.
        setting: its name in messages.

    Raises:
        ConfigurationError: for a seed out of range.
    """
    if seed is None:
        return
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigurationError(f"{setting} must be from 0 to {_LARGEST_SEED}, not {seed}")
    lightning.seed_everything(seed, workers=True, verbose=False)


def quieten() -> None:
    """Silence Lightning's messages that are no news here, for the rest of the process."""
    for name in _LIGHTNING:
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in _NO_NEWS:
        warnings.filterwarnings("ignore", message)


@contextmanager
def typed_errors() -> Iterator[None]:
    """Raise what Lightning refuses as a ConfigurationError, in one line."""
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigurationError(" ".join(str(error).split())) from error


@contextmanager
def as_found() -> Iterator[None]:
    """Quiet within; afterwards log levels and warning filters are as they were.

    A process group that was begun within serves later fits too, and is left when the process ends.
    """
    levels = {name: logging.getLogger(name).level for name in _LIGHTNING}
    had_group = _has_process_group()
    try:
        with warnings.catch_warnings(), typed_errors():
            quieten()
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        if not had_group and _has_process_group():
            atexit.register(leave_process_group, together=False)


def leave_process_group(together: bool) -> None:
    """End the process group: Lightning does so for NCCL only, and gloo's threads may abort the process at exit.

    Args:
        together: whether all ranks come here, and wait for each other; after a failure some may be gone.
    """
    if _has_process_group():
        if together:
            torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _has_process_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
