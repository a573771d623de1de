"""How a trainer ends a fit that its optimizer does not end."""

from __future__ import annotations

from lightning.pytorch import Trainer

from torchplug.component import Outcome


def trainer_outcome(trainer: Trainer) -> Outcome:
    """Which of a trainer's limits ended the fit, and how to continue.

    Args:
        trainer: whose fit has ended without an error.
    """
    epochs, limit = trainer.current_epoch, trainer.max_epochs
    if limit is not None and 0 <= limit <= epochs:
        return Outcome("limit", f"the trainer's {epochs} epochs are done", "raise max_epochs to go on")
    if 0 <= trainer.max_steps <= trainer.global_step:
        return Outcome("limit", f"the trainer's {trainer.max_steps} steps are done", "raise max_steps to go on")
    reason = f"the trainer stopped after {epochs} epochs, as a callback or max_time asked"
    return Outcome("limit", reason, "leave these out to go on")
