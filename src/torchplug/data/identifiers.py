"""Columns of text that identify rows, such as names and numbers of orders: nothing can be learned from them."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from torchplug.data.statistics import DistinctCount
from torchplug.data.table import Table
from torchplug.preprocessing.blocks import block_rows
from torchplug.tables.text import TEXT, as_text

_SHARE = 0.95
"""Above this share of different values a column is one of identifiers."""

_ROWS = 20
"""In fewer values than this, being different says nothing."""

_NUMBERS = 16
"""A text and what it takes to count it need about as much memory as so many numbers."""


def identifiers(table: Table, columns: Sequence[str]) -> list[str]:
    """Those of the columns that are text of which more than 95 % of the values differ, in 20 values or more.

    All rows are read, one block at a time; nothing of their number is held.
    """
    texts = [name for name in columns if table.head[name].dtype in TEXT]
    if not texts:
        return []
    counts = {name: DistinctCount() for name in texts}
    for _, frame in table.blocks(texts, block_rows(_NUMBERS * len(texts))):
        for name, count in counts.items():
            count.add(_present(frame[name]))
    return [name for name, count in counts.items() if count.values >= _ROWS and count.distinct > _SHARE * count.values]


def _present(series: pl.Series) -> pl.Series:
    return as_text(series.drop_nulls())
