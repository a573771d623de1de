"""Recording what an evaluation measured, where that is possible."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from torchplug.errors import WriteError
from torchplug.tracking.directory import RunDirectory
from torchplug.tracking.jsonl import JsonlLogger


class EvaluationLogger(JsonlLogger):
    """Append the figures of an evaluation to metrics.jsonl; a run that cannot be written to is no error.

    Args:
        directory: the run's.
    """

    def __init__(self, directory: RunDirectory) -> None:
        super().__init__(directory)
        self.trouble: WriteError | None = None
        """Why the figures could not be written, or None."""

    @override
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        try:
            super().log_metrics(metrics, step)
        except WriteError as error:
            self.trouble = error
