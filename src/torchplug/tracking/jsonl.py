"""metrics.jsonl: metrics, row by row, readable while training runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from torchplug.errors import WriteError
from torchplug.tracking.agreement import is_rank_zero
from torchplug.tracking.row_file import RowFile
from torchplug.tracking.run import Run

EVALUATED = "evaluated"
"""The first key of rows written by an evaluation of a checkpoint."""


def plain_values(metrics: Mapping[str, Any]) -> dict[str, int | float | None]:
    """Return metrics as Python numbers; None for NaN and infinities, which JSON cannot represent.

    >>> plain_values({"val/loss": 0.1, "val/auroc": float("nan")})
    {'val/loss': 0.1, 'val/auroc': None}
    """
    return {name: _plain(value) for name, value in metrics.items()}


def _plain(value: Any) -> int | float | None:
    number: int | float = value.item() if hasattr(value, "item") else value
    return number if math.isfinite(number) else None


class JsonlLogger(Logger):
    """Lightning logger that writes a row as one JSON object: `{"step": 10, "epoch": 1, "val/loss": 0.25}`.

    Floats are written so that reading gives the same float64; NaN and infinities are null, as is the
    epoch if a callback logs without one. Each row is on disk when the call returns. A resumed run
    appends, after removing an incomplete row that a kill may have left.

    Args:
        directory: the run; rows are written to its metrics.jsonl, by rank 0 only.
    """

    def __init__(self, directory: Run) -> None:
        super().__init__()
        self._directory = directory
        self._rows = RowFile(directory.metrics_file)
        self._trained: int | None = None  # not counted yet

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
        trained = self._count()
        self._rows.append([{"step": step, "epoch": values.pop("epoch", None), **values}])
        self._trained = trained + 1

    @property
    def trained_rows(self) -> int:
        """Return the number of training rows in the file, evaluations excluded; 0 on ranks that do not write."""
        return self._count() if is_rank_zero() else 0

    @rank_zero_only
    def keep(self, rows: int) -> None:
        """Drop all training rows after the first `rows`, because a resumed run writes them again.

        Raises:
            WriteError: if the file cannot be written; then it is unchanged.
        """
        if self._count() <= rows:
            return
        kept, trained = [], 0
        for line in self._rows.lines():
            trained += not _is_evaluation(line)
            if trained <= rows or _is_evaluation(line):
                kept.append(line)
        self._rows.replace(kept)
        self._trained = rows

    def read(self) -> list[dict[str, Any]]:
        """The rows of training that the file holds."""
        lines = self._directory.metrics_file.read_bytes().splitlines() if self._directory.metrics_file.is_file() else []
        return [json.loads(line) for line in lines if not _is_evaluation(line)]

    def _count(self) -> int:
        if self._trained is None:
            self._trained = sum(not _is_evaluation(line) for line in self._rows.lines())
        return self._trained


class EvaluationLogger(JsonlLogger):
    """Lightning logger that appends the metrics of an evaluation, as rows marked with the checkpoint's name.

    A resumed run keeps them. A run directory that cannot be written to is not an error here.

    Args:
        directory: the run's.
        checkpoint: the name of the file that is evaluated.

    Attributes:
        trouble: why the metrics could not be written; None if they were.
    """

    def __init__(self, directory: Run, checkpoint: str) -> None:
        super().__init__(directory)
        self._checkpoint = checkpoint
        self.trouble: WriteError | None = None

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        values = plain_values(metrics)
        row = {EVALUATED: self._checkpoint, "step": step, "epoch": values.pop("epoch", None), **values}
        try:
            self._rows.append([row])
        except WriteError as error:
            self.trouble = error


def _is_evaluation(line: bytes) -> bool:
    return line.startswith(f'{{"{EVALUATED}"'.encode())
