"""metrics.jsonl: what was measured, row by row, readable while training runs."""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from torchplug.tracking.directory import RunDirectory
from torchplug.tracking.whole_files import append_row, write_error

_encode = json.JSONEncoder(allow_nan=False).encode  # made once: `json.dumps` makes one each time


def plain_values(metrics: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Metrics as Python numbers; None for NaN and infinities, for which JSON has no number.

    >>> plain_values({"val/loss": 0.1, "val/auroc": float("nan")})
    {'val/loss': 0.1, 'val/auroc': None}
    """
    return {name: _plain(value) for name, value in metrics.items()}


def _plain(value: Any) -> int | float | None:
    number: int | float = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else None


class JsonlLogger(Logger):
    """Write each row of metrics as one JSON object: `{"step": 10, "epoch": 1, "val/loss": 0.25}`.

    Floats are written so that reading gives the same float64; NaN and infinities are null, and so is
    the epoch where a callback logs without one. Each row is on disk when the call returns. A
    resumed run appends, after cutting off what a kill may have left of a row.

    Args:
        directory: the run's; rows go to its metrics.jsonl, from rank 0 alone.
    """

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__()
        self._directory = directory
        self._file: int | None = None  # a descriptor: opening the file anew would be most of a row's time

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens the file for itself."""
        return {**self.__dict__, "_file": None}

    @property
    @override
    def name(self) -> str:
        return self._directory.recipe

    @property
    @override
    def version(self) -> str:
        return self._directory.path.name

    @property
    @override
    def save_dir(self) -> str:
        return str(self._directory.path)

    @override
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml holds the settings."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        values = plain_values(metrics)
        row = {"step": step, "epoch": values.pop("epoch", None), **values}
        line = _encode(row) + "\n"
        if self._file is None:
            try:
                self._cut_torn_row()
                self._file = os.open(self._directory.metrics, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            except OSError as error:
                raise write_error(self._directory.metrics, error) from error
            weakref.finalize(self, os.close, self._file)
        append_row(self._file, line.encode(), self._directory.metrics)

    def _cut_torn_row(self) -> None:
        if not self._directory.metrics.is_file():
            return
        with self._directory.metrics.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
