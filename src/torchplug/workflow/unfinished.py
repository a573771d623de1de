"""Many fits of a method, and their end by a signal."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from torchplug.data.folds import Fold
from torchplug.data.tabular import TabularData
from torchplug.fit_result import FitResult
from torchplug.interruption import Interrupted
from torchplug.many import fit_many
from torchplug.many.record import BrokenOff
from torchplug.tracking.run import Run


class Unfinished(Interrupted):
    """A signal stopped a method, which can be resumed.

    Args:
        run: the run directory from which it is resumed.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run

    def told(self, what: str) -> KeyboardInterrupt:
        """The interrupt that Python's callers get, with how to go on."""
        return KeyboardInterrupt(f"{what} was interrupted: {how_to_go_on(self.run)}")


def how_to_go_on(run: Run) -> str:
    """The argument that resumes a run."""
    return f"go on with resume={os.path.relpath(run.path)!r}"


def fit_all(
    configs: Sequence[Mapping[str, Any]], data: TabularData, folds: Sequence[Fold] | None, **options: Any
) -> tuple[list[FitResult], Run]:
    """Return what `fit_many` returns, and the run directory.

    Args:
        configs: see `fit_many`.
        data: see `fit_many`.
        folds: see `fit_many`.
        options: its others.

    Raises:
        TorchplugError: for input that is refused.
        Unfinished: if a signal stopped it; what is done is kept.
    """
    try:
        results = fit_many(configs, data, folds, **options)
    except BrokenOff as stop:
        raise Unfinished(stop.run) from stop
    run: Run = results[0].run.outermost
    # A run that was finished before and trained on may have an earlier outcome.
    recorded = [model["reason"] for model in (run.outcome or {}).get("models", [])]
    if recorded != [result.outcome.reason for result in results]:
        raise Unfinished(run)
    return results, run
