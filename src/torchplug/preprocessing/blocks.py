"""Tables are gone through a block of rows at a time, so that what is held meanwhile does not grow with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torchplug.errors import DataError

BLOCK_NUMBERS = 2**20
"""How many numbers a block holds: 8 MiB in double precision."""


def block_rows(columns: int) -> int:
    """How many rows of this many columns make a block."""
    return rows_of(BLOCK_NUMBERS, columns)


def rows_of(numbers: int, columns: int) -> int:
    """How many rows of this many columns hold about so many numbers: a power of two."""
    return 1 << max(0, (numbers // columns).bit_length() - 1)


def intervals(rows: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut rows into blocks of this size, the last perhaps smaller: (start, stop) of each."""
    for start in range(0, rows, size):
        yield start, min(start + size, rows)


@contextmanager
def worded_for_all_rows(check: Callable[[], None]) -> Iterator[None]:
    """Where a block is refused, let a check of all rows refuse them: its message counts over all blocks.

    Args:
        check: refuses all rows, as it would do without blocks; if it does not, the block's own message stands.
    """
    try:
        yield
    except DataError:
        try:
            check()
        except DataError as error:
            raise error from None
        raise
