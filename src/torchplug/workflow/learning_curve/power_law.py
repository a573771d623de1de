"""A power law fitted to errors of growing training sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_EXPONENTS = np.linspace(0.05, 2.0, 79)
_DRAWS = 200
_LEAST_SIZES = 3


@dataclass(frozen=True)
class PowerLaw:
    """error(n) = a + b·n^−c.

    Args:
        a: ≥ 0, the error that no number of rows falls below.
        b: > 0.
        c: in [0.05, 2].
    """

    a: float
    b: float
    c: float

    def at(self, rows: float) -> float:
        """The error expected from this many training rows."""
        return float(self.a + self.b * rows**-self.c)


def fitted(rows: NDArray[np.float64], errors: NDArray[np.float64]) -> PowerLaw | None:
    """The least-squares fit with a ≥ 0; None where errors do not fall, or there are fewer than three sizes."""
    if len(np.unique(rows)) < _LEAST_SIZES:
        return None
    best: tuple[float, PowerLaw] | None = None
    for c in _EXPONENTS:
        powers = rows**-c
        spread = powers - powers.mean()
        b = float(spread @ errors / (spread @ spread))
        a = float(errors.mean() - b * powers.mean())
        if a < 0:
            a, b = 0.0, float(powers @ errors / (powers @ powers))
        if b <= 0:
            continue
        law = PowerLaw(a, b, float(c))
        misfit = float(np.sum((a + b * powers - errors) ** 2))
        if best is None or misfit < best[0]:
            best = misfit, law
    return None if best is None else best[1]


def interval(groups: Sequence[tuple[float, NDArray[np.float64]]], rows: float) -> tuple[float, float] | None:
    """95 % bootstrap interval of the error expected from a number of training rows.

    Args:
        groups: number of training rows, and the errors of the fits on so many.
        rows: for which the law is extrapolated.

    Returns:
        its ends; None where most draws do not follow a power law.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(_DRAWS):
        drawn = [(n, generator.choice(errors, len(errors))) for n, errors in groups]
        sizes = np.concatenate([np.full(len(errors), n) for n, errors in drawn])
        law = fitted(sizes, np.concatenate([errors for _, errors in drawn]))
        if law is not None:
            found.append(law.at(rows))
    if len(found) < _DRAWS / 2:
        return None
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
