"""How often a value was replaced by another when a table was encoded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Substitutions:
    """Values that were encoded as something else, counted by column.

    Args:
        missing: missing values that were filled in.
        unknown: categories that the training part lacks.
    """

    missing: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)

    def count(self, column: str, missing: int, unknown: int) -> None:
        """Add what some rows of a column hold."""
        if missing:
            self.missing[column] += missing
        if unknown:
            self.unknown[column] += unknown
