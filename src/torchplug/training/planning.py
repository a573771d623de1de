"""The planned number of optimizer steps of a run, for schedulers."""

from __future__ import annotations

import math

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer


def planned_steps(trainer: Trainer) -> tuple[int | None, int | None]:
    """Return the optimizer steps of the run and of an epoch; None for a number that is not planned."""
    try:
        total = trainer.estimated_stepping_batches
    except MisconfigurationException:  # accumulation changes over the epochs
        total = math.inf
    if trainer.train_dataloader is None:  # with max_steps alone, Lightning estimates without loading the data
        trainer.fit_loop.setup_data()
    per_epoch = trainer.num_training_batches / trainer.accumulate_grad_batches
    return (
        int(total) if math.isfinite(total) and total >= 0 else None,
        math.ceil(per_epoch) if math.isfinite(per_epoch) else None,
    )
