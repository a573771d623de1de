"""Which rows of a run came before a checkpoint: a resumed run continues after them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from torchplug.execution.lightning_internals import validation_is_due
from torchplug.execution.resumption import epoch_is_complete
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.wandb import WandbLogger


class RowPosition(Callback):
    """Keep in each checkpoint how many rows were written before it, and continue after these when it is resumed.

    Rows of a validation or of an epoch's end that came only because training stopped within an epoch are not counted:
    a resumed run writes those of the whole epoch in their place.

    Args:
        jsonl: whose rows are counted, and cut.
        wandb: what sends the same rows to Weights & Biases, if anything does.
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
        if self._resumed is None:
            return
        self._jsonl.keep(self._resumed)
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
