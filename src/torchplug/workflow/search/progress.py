"""Progress of a search on a terminal: trials that have ended, the best so far, and the time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


class SearchProgress:
    """A line on a terminal.

    Args:
        bar: rich's.
        planned: how many trials there are.
    """

    def __init__(self, bar: Progress, planned: int) -> None:
        self._bar = bar
        self._planned = planned
        self._task = bar.add_task("", total=planned)

    def advance(self, trials: float) -> None:
        """Move on by a number of trials."""
        self._bar.advance(self._task, trials)

    def show(self, ended: int, best: str) -> None:
        """Show how many have ended, and the best of them."""
        text = f"{ended} of {self._planned} trials{f', best {best}' if best else ''}"
        self._bar.update(self._task, completed=ended, description=text)


@contextmanager
def progress(planned: int, shown: bool) -> Iterator[SearchProgress]:
    """A line on a terminal's standard error, which is removed afterwards.

    Args:
        planned: how many trials there are.
        shown: whether the user wants to see it.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal), transient=True) as bar:
        yield SearchProgress(bar, planned)
