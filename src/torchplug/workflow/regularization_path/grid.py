"""The values of λ along a path."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from torchplug.errors import ConfigurationError

_RANGE = re.compile(r"(log|linear)\(([^,()]+),([^,()]+)\)")


def values_of(coefficient: str | Sequence[float], points: int) -> list[float]:
    """Return the values of λ, from large to small.

    Args:
        coefficient: `log(a,b)`, equally spaced in the logarithm; `linear(a,b)`, equally spaced; or the values.
        points: how many of a range, at least 2.

    Raises:
        ConfigurationError: for a range that is none, and values that are negative, not finite or fewer than two.

    >>> values_of("log(1e-2,1)", 3)
    [1.0, 0.1, 0.01]
    """
    values = _of_range(coefficient, points) if isinstance(coefficient, str) else _numbers(coefficient)
    wrong = [value for value in values if not (math.isfinite(value) and value >= 0.0)]
    if wrong:
        raise ConfigurationError(f"coefficient has {wrong[0]:g}: λ is at least 0 and finite")
    descending = sorted(set(values), reverse=True)
    if len(descending) < 2:
        raise ConfigurationError("coefficient has fewer than two different values: a path needs at least two")
    return descending


def _of_range(text: str, points: int) -> list[float]:
    found = _RANGE.fullmatch(text.replace(" ", ""))
    try:
        low, high = (float(end) for end in found.groups()[1:]) if found else (math.nan, math.nan)
    except ValueError:
        found = None
    if found is None:
        raise ConfigurationError(
            f"coefficient is {text!r}: give a range such as log(1e-6,1) or linear(0,1), or a list of values"
        )
    if isinstance(points, bool) or not isinstance(points, int) or points < 2:
        raise ConfigurationError(f"points is {points!r}: a path needs at least 2")
    if not low < high:
        raise ConfigurationError(f"coefficient is {text}: the range is reversed or empty; give the smaller end first")
    spacing = found.group(1)
    if spacing == "log" and not low > 0.0:
        raise ConfigurationError(f"coefficient is {text}: a logarithmic range starts above 0; use linear({low:g},…)")
    space = np.geomspace if spacing == "log" else np.linspace
    return [float(value) for value in space(high, low, points)]


def _numbers(values: Sequence[float]) -> list[float]:
    try:
        return [float(value) for value in values]
    except (TypeError, ValueError):
        raise ConfigurationError(f"coefficient is {values!r}: give numbers, or a range such as log(1e-6,1)") from None
