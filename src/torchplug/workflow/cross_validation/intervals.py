"""Confidence intervals of cross-validated means."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

Interval = tuple[float, float]
_LEVEL = 0.95


def corrected_interval(values: Sequence[float], training: Sequence[int], validation: Sequence[int]) -> Interval:
    r"""95 % interval of a mean over folds, corrected for training sets that overlap.

        x̄ ± t_{J−1} σ √(1/J + n_test/n_train)

    with J values, their standard deviation σ (J − 1 in the denominator) and the ratio of all rows that validate to all
    that train. The folds' values are not independent: the plain 1/J alone is far too narrow.

    Args:
        values: of J folds, all repeats together.
        training: how many rows train in each.
        validation: how many rows validate in each.

    Returns:
        its ends; NaN for a single fold, and where a value is undefined.

    Reference: Nadeau and Bengio (2003), doi:10.1023/A:1024068626366; over repeats, Bouckaert and Frank (2004).
    """
    count = len(values)
    if count < 2 or not all(map(math.isfinite, values)):
        return math.nan, math.nan
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    half = student_quantile(_LEVEL, count - 1) * spread * math.sqrt(1 / count + sum(validation) / sum(training))
    return mean - half, mean + half


def student_quantile(level: float, degrees: int) -> float:
    """The t > 0 for which |T| ≤ t has this probability, T of Student's distribution.

    Args:
        level: in (0, 1).
        degrees: ν ≥ 1, whole.

    >>> round(student_quantile(0.95, 4), 6)
    2.776445
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """P(|T| ≤ √ν tan θ), by the finite sums for whole ν (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term = cosine if odd else 1.0
    total = 0.0
    for power in range(1 + odd, degrees, 2):
        total += term
        term *= power / (power + 1) * cosine * cosine
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
