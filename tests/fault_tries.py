"""How often a fault is tried: a quick selection in `make test`, all of it in `make faults`."""

import os

EVERYTHING = os.environ.get("FAULTS") == "all"


def tries(quick, everything):
    """Seeds to parametrize a fault by: `quick` of them, or all when `make faults` runs."""
    return range(everything if EVERYTHING else quick)


def selected(cases, quick):
    """The first `quick` of several cases, or all when `make faults` runs."""
    return list(cases) if EVERYTHING else list(cases)[:quick]
