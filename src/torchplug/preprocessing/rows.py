"""Row numbers in the user's table."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Rows = NDArray[np.int64] | NDArray[np.int32]
"""Positions of rows, from 0."""


def row_number(mask: pl.Series, rows: Rows | None) -> int:
    """Return the number of the first true row of a mask, counted from 1 in the user's table.

    Args:
        mask: booleans (n,), at least one of them true.
        rows: positions of the n rows in that table, from 0; None: all of it.
    """
    first = int(mask.arg_true()[0])
    return 1 + (first if rows is None else int(rows[first]))
