"""At which points the cost of a sample is measured as work grows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Factor = Literal["rows", "features", "batch", "width"]

_LEAST_EPOCH, _MOST_EPOCH = 4, 400
"""Of steps, where rows are no factor."""
_MOST_ROWS = 2**20
"""Where rows are no factor, and make enough steps."""
_OPERATIONS = 4e11
"""About how many multiplications and additions an epoch may take, where rows are no factor."""


@dataclass(frozen=True)
class Point:
    """An MLP with two hidden layers on a table, one factor varied.

    Args:
        factor: the one that varies.
        rows: n.
        features: d.
        batch: b, rows a step.
        width: of the hidden layers.
        epochs: that count; one before them does not.
    """

    factor: Factor
    rows: int
    features: int
    batch: int
    width: int
    epochs: int

    @property
    def value(self) -> int:
        """Of the factor."""
        return int(getattr(self, self.factor))

    @property
    def name(self) -> str:
        """Such as growth-rows-10000."""
        return f"growth-{self.factor}-{self.value}"

    @property
    def data(self) -> int:
        """What one float32 copy of features and target takes, in bytes."""
        return 4 * self.rows * (self.features + 1)


@dataclass(frozen=True)
class Cost:
    """What a point cost.

    Args:
        point: which.
        seconds: per sample, of each epoch that counts.
        bare: the same of the bare loop with fused Adam.
        prepared: memory taken at most until training began, in bytes, beside the arrays that the user holds.
        held: memory taken when training began, in bytes, beside the same.
        training: memory taken at most while training, in bytes, beside what was held when it began.
    """

    point: Point
    seconds: list[float]
    bare: list[float]
    prepared: int
    held: int
    training: int

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Cost:
        """From JSON."""
        return cls(**{**plain, "point": Point(**plain["point"])})

    @property
    def median(self) -> float:
        """Seconds per sample."""
        return statistics.median(self.seconds)


VALUES: dict[Factor, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "rows": ((10**4, 10**5, 10**6, 10**7), (10**4, 10**5)),
    "features": ((8, 32, 128, 512, 1024), (8, 256)),
    "batch": ((16, 64, 256, 1024, 4096, 16384, 65536), (16, 4096)),
    "width": ((8, 32, 128, 512, 2048), (8, 128)),
}
"""All, and those of a quick run."""


def exponent(costs: Sequence[Cost]) -> float:
    """How the time per sample grows with the factor: the power of it, between the two largest values."""
    smaller, larger = sorted(costs, key=lambda cost: cost.point.value)[-2:]
    return math.log(larger.median / smaller.median) / math.log(larger.point.value / smaller.point.value)


def points(quick: bool) -> list[Point]:
    """One factor varied at a time, around d = 32 (8 where rows vary), b = 256 and a width of 64."""
    return [_point(factor, value, quick) for factor, values in VALUES.items() for value in values[quick]]


def _point(factor: Factor, value: int, quick: bool) -> Point:
    setting = {"features": 8 if factor == "rows" else 32, "batch": 256, "width": 64} | {factor: value}
    features, batch, width = setting["features"], setting["batch"], setting["width"]
    operations = 6 * batch * (width * features + width * width)
    steps = int(min(max(_OPERATIONS / 10**quick / operations, _LEAST_EPOCH), _MOST_EPOCH / 4**quick))
    rows = value if factor == "rows" else max(_LEAST_EPOCH * batch, min(steps * batch, _MOST_ROWS))
    return Point(factor, rows, features, batch, width, epochs=1 if rows >= 10**7 else 3)
