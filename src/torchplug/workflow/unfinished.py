"""The end of a method by a signal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torchplug.fit_result import FitResult
from torchplug.interruption import Interrupted
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


@contextmanager
def kept_if_broken_off() -> Iterator[None]:
    """Raise Unfinished where a long step of `fit_many` was broken off."""
    try:
        yield
    except BrokenOff as stop:
        raise Unfinished(stop.run) from stop


def has_ended(run: Run, results: Sequence[FitResult]) -> bool:
    """Whether the training of many models has ended; a run that was trained on may have an earlier outcome."""
    recorded = [model["reason"] for model in (run.outcome or {}).get("models", [])]
    return recorded == [result.outcome.reason for result in results]
