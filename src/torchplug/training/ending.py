"""The outcome of a fit that ends by a limit of the trainer."""

from __future__ import annotations

from lightning.pytorch import Trainer

from torchplug.registry.component import Outcome


def trainer_outcome(trainer: Trainer) -> Outcome:
    """Return the outcome of a fit that the trainer ended: the limit that was reached, and how to train longer.

    Args:
        trainer: the trainer, after a fit without an error.
    """
    epochs, limit = trainer.current_epoch, trainer.max_epochs
    if limit is not None and 0 <= limit <= epochs:
        return Outcome("limit", f"the trainer's {epochs} epochs are done", "resume with a larger max_epochs")
    if 0 <= trainer.max_steps <= trainer.global_step:
        return Outcome("limit", f"the trainer's {trainer.max_steps} steps are done", "resume with a larger max_steps")
    reason = f"the trainer stopped after {epochs} epochs, as a callback or max_time asked"
    return Outcome("limit", reason, "resume without them")
