"""Recording of the number of metric rows before a checkpoint, after which a resumed run continues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.wandb import WandbLogger
from torchplug.training.lightning_internals import validation_is_due
from torchplug.training.resumption import epoch_is_complete


class RowPosition(Callback):
    """Callback that records in each checkpoint the number of rows before it, and truncates to it on resuming.

    Rows of a validation or an epoch's end that happened only because training stopped within an epoch are not counted:
    a resumed run replaces them by those of the whole epoch.

    Args:
        jsonl: the logger whose rows are counted and truncated.
        wandb: the logger that sends these rows to Weights & Biases, if any.
    """

    def __init__(self, jsonl: JsonlLogger, wandb: WandbLogger | None) -> None:
        self._jsonl = jsonl
        self._wandb = wandb
        self._resumed: int | None = None
        self._before_early_end: int | None = None

    @override
    def state_dict(self) -> dict[str, Any]:
        rows = self._before_early_end
        return {"rows": self._jsonl.trained_rows if rows is None else rows}

    @override
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        self._resumed = int(state_dict["rows"])

    @override
    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._before_early_end = None
        self._jsonl.keep(self._resumed or 0)  # a killed run may have left rows and no checkpoint
        if self._resumed is None:
            return
        if self._wandb is not None:
            self._wandb.replay(self._jsonl.read())
        self._resumed = None

    @override
    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not trainer.sanity_checking and not validation_is_due(trainer):
            self._note_early_end()

    @override
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not epoch_is_complete(trainer):
            self._note_early_end()

    def _note_early_end(self) -> None:
        if self._before_early_end is None:
            self._before_early_end = self._jsonl.trained_rows
