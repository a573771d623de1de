"""The end of a method by a signal."""

from __future__ import annotations

from torchplug.interruption import Interrupted
from torchplug.tracking.run import Run


class Unfinished(Interrupted):
    """A signal stopped a method, which can be resumed.

    Args:
        run: the run directory from which it is resumed.
    """

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
