"""How many rows a batch has, and how many batches an epoch."""

from __future__ import annotations

import operator
from typing import Any, Literal

from torchplug.errors import DataError

BatchSize = int | Literal["full"]

_EVALUATION_ROWS = 1024
"""Minimum batch size of evaluation, where it does not affect results."""


def check_batch_size(value: Any) -> BatchSize:
    """A batch size as a user gives it: "full", or a whole number of at least 1.

    Raises:
        DataError: for anything else.
    """
    if value == "full":
        return "full"
    if isinstance(value, bool) or not hasattr(value, "__index__") or operator.index(value) < 1:
        raise DataError(f"batch_size must be a whole number of at least 1, or full, not {value!r}")
    return operator.index(value)


def evaluation_size(size: BatchSize, stream: bool) -> BatchSize:
    """Rows per batch of evaluation, by those of training."""
    if size != "full":
        return max(size, _EVALUATION_ROWS)
    return _EVALUATION_ROWS if stream else "full"


def batch_count(rows: int, size: BatchSize, world: int) -> int:
    """How many batches of this size so many rows are on each of `world` ranks."""
    return min(rows, 1) if size == "full" else -(-rows // (size * world))
