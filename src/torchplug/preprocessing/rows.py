"""Rows of the table that the user gave."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

Rows = NDArray[np.int64] | NDArray[np.int32]
"""Places of rows, from 0."""


def row_number(mask: pl.Series, rows: Rows | None) -> int:
    """The first row that a mask marks, counted from 1 in the table that the user gave.

    Args:
        mask: booleans (n,), at least one of them true.
        rows: where in that table the n rows stand, from 0; None: they are the whole of it.
    """
    first = int(mask.arg_true()[0])
    return 1 + (first if rows is None else int(rows[first]))
