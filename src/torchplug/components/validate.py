"""Range checks of component parameters: each raises a ValueError that names the parameter, its range and the value."""

from __future__ import annotations

import math


def positive(**values: float) -> None:
    """Refuse values that are not finite and above zero."""
    between(0.0, math.inf, **values)


def non_negative(**values: float) -> None:
    """Refuse values that are not finite and at least zero."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be at least 0 and finite, got {value}")


def below_one(**values: float) -> None:
    """Refuse values outside [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be in [0, 1), got {value}")


def between(low: float, high: float, **values: float) -> None:
    """Refuse values that are not strictly between two bounds."""
    for name, value in values.items():
        if not low < value < high:
            expected = "positive and finite" if (low, high) == (0.0, math.inf) else f"between {low:g} and {high:g}"
            raise ValueError(f"{name} must be {expected}, got {value}")


def at_least(minimum: int, **values: float) -> None:
    """Refuse values below `minimum`."""
    for name, value in values.items():
        if not value >= minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")


def one_of(*choices: str, **values: str) -> None:
    """Refuse values that are not among the choices."""
    for name, value in values.items():
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")
