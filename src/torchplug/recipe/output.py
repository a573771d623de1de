"""Output of a recipe; what cannot be written does not end a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torchplug.errors import TrainingError
from torchplug.fitting.ranks import first_rank
from torchplug.terminal import lost_output, one_line, protect_streams


@contextmanager
def safe_output(name: str) -> Iterator[None]:
    """Protect the standard streams for the rest of the process, and warn at the end if lines were lost.

    A run's exit status stays what it is: its files have everything. `--help` and `--print_config` have nothing but
    their output, and end with status 3 when a full disk has taken it.

    Args:
        name: the recipe's, for the warning.
    """
    protect_streams()
    try:
        yield
    except SystemExit as stop:
        if lost_output() is not None and not stop.code:
            raise SystemExit(TrainingError.exit_status) from stop
        raise
    finally:
        if (trouble := lost_output()) is not None:
            print(f"{name}: warning: part of the output is lost: {trouble.strerror}", file=sys.stderr, flush=True)


def say_notes(notes: Sequence[str]) -> None:
    """Print notes, a line each, on one rank: what was noticed in table, settings and components."""
    if first_rank():
        for note in notes:
            print(f"note: {one_line(note)}", flush=True)
