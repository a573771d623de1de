"""How schedules and networks fade over a run; t in [0, 1] is the part of it that is over."""

from __future__ import annotations

import math


def flat_cosine(passed: float, flat: float = 0.5) -> float:
    """Return 1 for t < p, then ½ (1 + cos(π (t − p)/(1 − p))), which is 0 at the end.

    Args:
        passed: t in [0, 1], the part of the run that is over.
        flat: p in [0, 1).
    """
    return 0.5 * (1.0 + math.cos(math.pi * max(passed - flat, 0.0) / (1.0 - flat)))
