"""Absolute residuals of rows that did not train, and the half-widths of conformal intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from torchplug.errors import ConfigurationError

_MOST = 2000
"""Of more rows, only some of the sorted residuals are kept."""
_GRID = 1000
_TAIL = 10_000


@dataclass(frozen=True)
class Residuals:
    r"""Sorted absolute residuals of m rows that did not train, for each of k target columns.

        h(level) = the ⌈(m + 1)·level⌉-th smallest of |y₁ − ŷ₁|, …, |y_m − ŷ_m|

    ŷ ± h covers a new row with a probability of at least `level` if it and the m rows are exchangeable. Every row
    counts once, whatever its weight.

    Args:
        rows: m.
        ranks: (r,) int64, ascending, which of the sorted residuals are kept, the smallest being 1.
        values: (r, k) float64, these residuals in the target's units.

    Reference: Vovk, Gammerman and Shafer (2005), Algorithmic learning in a random world; Lei et al. (2018),
    doi:10.1080/01621459.2017.1307116.
    Note: all residuals of up to 2000 rows are kept; of more, those of the levels 0.001, 0.002, …, 0.999, 0.9991, …,
    0.9999, and the largest. A level between two of them has the half-width of the higher one.
    """

    rows: int
    ranks: Tensor
    values: Tensor

    @classmethod
    def of(cls, errors: Tensor) -> Residuals:
        """Sort the errors y − ŷ (m, k) of all rows; an error that is NaN counts as infinite."""
        ranks = _kept(len(errors))
        ordered = errors.double().abs().nan_to_num(nan=math.inf, posinf=math.inf).sort(dim=0).values
        return cls(len(errors), ranks, ordered[ranks - 1].contiguous())

    def half_widths(self, level: float) -> Tensor:
        """The half-width h of each target column's interval, (k,) in its units.

        Args:
            level: the share of rows to cover, in (0, 1).

        Raises:
            ConfigurationError: if the level is out of range, or m < level / (1 − level).
        """
        exact = _exact(level)
        rank = math.ceil((self.rows + 1) * exact)
        if rank > self.rows:
            least, most = math.ceil(exact / (1 - exact)), math.floor(1000 * self.rows / (self.rows + 1)) / 1000
            raise ConfigurationError(
                f"an interval of level {level} needs at least {least} validation rows, and there were {self.rows}: ask "
                f"for at most {most:g}, or validate on more rows"
            )
        return self.values[int(torch.searchsorted(self.ranks, rank))]

    def state(self) -> dict[str, Any]:
        """The residuals as plain data and tensors."""
        return {"rows": self.rows, "ranks": self.ranks.clone(), "values": self.values.clone()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Residuals:
        """The residuals that `state` describes.

        Raises:
            ValueError: if they are not sorted, or the parts do not go together.
        """
        found = cls(int(state["rows"]), state["ranks"].cpu(), state["values"].cpu())
        ranks, values = found.ranks, found.values
        well_formed = (
            ranks.ndim == 1
            and values.ndim == 2
            and values.dtype == torch.float64
            and len(values) == len(ranks) > 0
            and bool((ranks.diff() > 0).all())
            and int(ranks[0]) >= 1
            and int(ranks[-1]) == found.rows
            and bool((values >= 0).all())
            and bool((values.diff(dim=0) >= 0).logical_or(values[1:].isinf()).all())
        )
        if not well_formed:
            raise ValueError("its residuals are not sorted")
        return found


def _exact(level: float) -> Fraction:
    """A level as the decimal number that it was written as.

    Raises:
        ConfigurationError: unless it is a number in (0, 1).
    """
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level < 1:
        raise ConfigurationError(f"the level of an interval is between 0 and 1, such as 0.9, not {level!r}")
    return Fraction(repr(float(level)))


def _kept(rows: int) -> Tensor:
    """Which of the sorted residuals are kept, counted from 1."""
    if rows <= _MOST:
        return torch.arange(1, rows + 1)
    grid, tail = torch.arange(1, _GRID), torch.arange(_TAIL - _TAIL // _GRID, _TAIL)
    ranks = torch.cat([_ranks(rows, grid, _GRID), _ranks(rows, tail, _TAIL), torch.tensor([rows])])
    kept: Tensor = torch.unique(ranks.clamp(max=rows))
    return kept


def _ranks(rows: int, numerators: Tensor, denominator: int) -> Tensor:
    """⌈(m + 1)·level⌉ for some levels."""
    return ((rows + 1) * numerators + denominator - 1) // denominator
