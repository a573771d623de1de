"""What a loader takes from the trainer, which is None for one by itself."""

from __future__ import annotations

from typing import Any


def is_double(trainer: Any) -> bool:
    """Whether the trainer computes in double precision."""
    return trainer is not None and trainer.precision == "64-true"


def rank_options(trainer: Any) -> dict[str, Any]:
    """Which rank the loader is for."""
    return {} if trainer is None else {"rank": trainer.global_rank, "world": trainer.world_size}


def training_options(trainer: Any, shuffle: bool) -> dict[str, Any]:
    """Order, rank and progress of a training epoch, as `Batches` takes them.

    Args:
        trainer: the one that fits.
        shuffle: whether the user wants a new order in each epoch.
    """
    if trainer is None:
        return {"shuffle": shuffle}
    return {
        "shuffle": shuffle and not trainer.overfit_batches,
        **rank_options(trainer),
        "window": lambda: trainer.accumulate_grad_batches,
        "limit": lambda: trainer.num_training_batches,
        # Lightning repeats a batch that was interrupted: what counts is what it has processed
        "consumed": lambda: trainer.fit_loop.epoch_loop.batch_progress.current.processed,
    }
