"""metrics.jsonl: what was measured, row by row, readable while training runs."""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from torchplug.errors import WriteError
from torchplug.tracking.agreement import is_rank_zero
from torchplug.tracking.run import Run
from torchplug.tracking.whole_files import append_row, whole_file, write_error

_EVALUATED = "evaluated"
"""The first key of a row that an evaluation of a checkpoint wrote, after or beside training."""

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

    def __init__(self, directory: Run) -> None:
        super().__init__()
        self._directory = directory
        self._file: int | None = None  # a descriptor: opening the file again would be most of a row's time
        self._closing: Callable[[], object] = lambda: None
        self._trained = 0

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens the file for itself."""
        return {**self.__dict__, "_file": None, "_closing": None}

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
        self._append({"step": step, "epoch": values.pop("epoch", None), **values})
        self._trained += 1

    @property
    def trained_rows(self) -> int:
        """How many rows of training the file holds, those of evaluations aside; 0 on ranks that do not write."""
        if is_rank_zero():
            self._open()
        return self._trained

    @rank_zero_only
    def keep(self, rows: int) -> None:
        """Drop all but the first `rows` rows of training: a resumed run writes again what came after its checkpoint.

        Raises:
            WriteError: if the file cannot be written; then it is unchanged.
        """
        self._open()
        if self._trained <= rows:
            return
        kept, trained = [], 0
        for line in self._directory.metrics_file.read_bytes().splitlines(keepends=True):
            trained += not _is_evaluation(line)
            if trained <= rows or _is_evaluation(line):
                kept.append(line)
        self._close()
        with whole_file(self._directory.metrics_file) as file:
            file.writelines(kept)

    def read(self) -> list[dict[str, Any]]:
        """The rows of training that the file holds."""
        lines = self._directory.metrics_file.read_bytes().splitlines() if self._directory.metrics_file.is_file() else []
        return [json.loads(line) for line in lines if not _is_evaluation(line)]

    def _append(self, row: Mapping[str, Any]) -> None:
        append_row(self._open(), f"{_encode(row)}\n".encode(), self._directory.metrics_file)

    def _open(self) -> int:
        """The file's descriptor, at the end of its last whole row: a kill may have left a part of one."""
        if self._file is None:
            path = self._directory.metrics_file
            try:
                file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                content = path.read_bytes()
                whole = content[: content.rfind(b"\n") + 1]
                os.ftruncate(file, len(whole))
            except OSError as error:
                raise write_error(path, error) from error
            self._file, self._closing = file, weakref.finalize(self, os.close, file)
            self._trained = sum(not _is_evaluation(line) for line in whole.splitlines())
        return self._file

    def _close(self) -> None:
        self._closing()
        self._file = None


class EvaluationLogger(JsonlLogger):
    """Append the figures of an evaluation, as rows of their own that say of which checkpoint they are.

    A resumed run keeps them. A run directory that cannot be written to is no error here.

    Args:
        directory: the run's.
        checkpoint: the name of the file that is evaluated.

    Attributes:
        trouble: why the figures could not be written; None where they were.
    """

    def __init__(self, directory: Run, checkpoint: str) -> None:
        super().__init__(directory)
        self._checkpoint = checkpoint
        self.trouble: WriteError | None = None

    @override
    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        values = plain_values(metrics)
        row = {_EVALUATED: self._checkpoint, "step": step, "epoch": values.pop("epoch", None), **values}
        try:
            self._append(row)
        except WriteError as error:
            self.trouble = error


def _is_evaluation(line: bytes) -> bool:
    return line.startswith(f'{{"{_EVALUATED}"'.encode())
