"""Which model of a fit becomes best.ckpt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning
from lightning.pytorch.callbacks import EarlyStopping

from torchplug.checks import validates
from torchplug.data.tabular import TabularData
from torchplug.module import ComponentModule


@dataclass(frozen=True)
class BestCheckpoint:
    """Minibatch optimizers: the epoch of lowest val/loss. Full-batch optimizers: the solution, where the fit ends.

    A full-batch optimizer ends at a minimum, and its earlier iterates are unfinished. An EarlyStopping on a metric of
    the validation split asks for one of these: then best.ckpt is the iterate of lowest val/loss.

    Args:
        monitor: the metric whose least value decides; None: none does.
        is_solution: whether it is the model at the end of the fit.
        notes: what the user should know of it.
    """

    monitor: str | None
    is_solution: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, trainer: lightning.Trainer, module: ComponentModule, data: TabularData) -> BestCheckpoint:
        """The choice for a fit.

        Args:
            trainer: with the callbacks that the user asked for.
            module: with its components.
            data: prepared.
        """
        monitor = "val/loss" if validates(trainer, data) else None
        if not module.resolved.is_full_batch:
            return cls(monitor, is_solution=False)
        if monitor is None or not _stops_early(trainer):
            return cls(None, is_solution=True)
        note = (
            "EarlyStopping watches the validation split, so best.ckpt is the iterate of lowest val/loss; last.ckpt and "
            "coefficients.csv are of the last iterate"
        )
        return cls(monitor, is_solution=False, notes=(note,))


def _stops_early(trainer: lightning.Trainer) -> bool:
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    return any(isinstance(c, EarlyStopping) and str(c.monitor).startswith("val/") for c in callbacks)
