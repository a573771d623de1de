"""Processing of tables in blocks of rows, so that temporary memory does not grow with the table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torchplug.errors import DataError

BLOCK_NUMBERS = 2**20
"""Numbers per block: 8 MiB in double precision."""


def block_rows(columns: int) -> int:
    """Return the number of rows of a block with this many columns."""
    return rows_of(BLOCK_NUMBERS, columns)


def rows_of(numbers: int, columns: int) -> int:
    """Return the number of rows of this many columns that hold about so many numbers: a power of two."""
    return 1 << max(0, (numbers // columns).bit_length() - 1)


def intervals(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of blocks of this size, of which the last may be smaller."""
    for start in range(0, rows, size):
        yield start, min(start + size, rows)


@contextmanager
def worded_for_all_rows(check: Callable[[], None]) -> Iterator[None]:
    """Replace a block's error by that of a check of all rows, whose message counts over all blocks.

    Args:
        check: raises the error for all rows; if it does not, the block's own error is raised.
    """
    try:
        yield
    except DataError:
        try:
            check()
        except DataError as error:
            raise error from None
        raise
