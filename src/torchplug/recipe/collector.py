"""Python's garbage collector while a recipe starts and ends: there is nothing for it to find among imported modules."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collector() -> Iterator[None]:
    """Import without the collector, which would go through all that is there again and again, for half a second."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # Freezing moves every object to where the collector never looks, unfreezing to its oldest generation: so the
        # next collection does not start with all of them.
        gc.freeze()
        gc.unfreeze()
        if paused:
            gc.enable()


def leave_to_the_system() -> None:
    """Keep what there is now until the process ends, and even then look for no garbage in it: another half second.

    For a process that is a recipe and nothing else.
    """
    gc.freeze()
