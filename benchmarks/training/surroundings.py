"""What every process of the benchmark sets before it measures."""

from __future__ import annotations

import logging
import warnings

THREADS = 2


def quieten() -> None:
    """Say nothing but the results."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
