"""Counts of imputed values and unknown categories of an encoded table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Substitutions:
    """Counts of substituted values, per column.

    Args:
        missing: imputed values.
        unknown: categories that are absent from the training split.
    """

    missing: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    def count(self, column: str, missing: int, unknown: int) -> None:
        """Add what some rows of a column hold."""
        if missing:
            self.missing[column] += missing
        if unknown:
            self.unknown[column] += unknown
