"""Refusals of parameters outside their range, worded alike."""

from __future__ import annotations

import math


def between(low: float, high: float, **values: float) -> None:
    """Refuse values that are not strictly between two bounds."""
    for name, value in values.items():
        if not low < value < high:
            expected = "positive and finite" if (low, high) == (0.0, math.inf) else f"between {low:g} and {high:g}"
            raise ValueError(f"{name} must be {expected}, got {value}")


def positive(**values: float) -> None:
    """Refuse values that are not finite and above zero."""
    between(0.0, math.inf, **values)


def one_of(*choices: str, **values: str) -> None:
    """Refuse values that are not among the choices."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
