"""Counts of imputed values and unknown categories of an encoded table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass
class Substitutions:
    """Counts of substituted values, per column.

    Args:
        missing: imputed values.
        unknown: categories that are absent from the training split.
        rows: which rows of the present block are counted, (n,); None: all.
    """

    missing: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    rows: NDArray[np.bool_] | None = None

    def among(self, rows: NDArray[np.bool_]) -> Substitutions:
        """The same counts, for some rows of a block."""
        return Substitutions(self.missing, self.unknown, rows)

    def seen(self, values: pl.Series) -> pl.Series:
        """The values of the rows that are counted."""
        return values if self.rows is None else values.filter(self.rows)

    @classmethod
    def total(cls, parts: Iterable[Substitutions]) -> Substitutions:
        """The sum of counts."""
        found = cls()
        for part in parts:
            found.missing.update(part.missing)
            found.unknown.update(part.unknown)
        return found

    def count(self, column: str, missing: int, unknown: int) -> None:
        """Add what some rows of a column hold."""
        if missing:
            self.missing[column] += missing
        if unknown:
            self.unknown[column] += unknown
