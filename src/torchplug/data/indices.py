"""Columns that number the rows, as pandas and R write them into files."""

from __future__ import annotations

import re

import numpy as np

from torchplug.data.table import Table
from torchplug.preprocessing.blocks import block_rows

_PANDAS = re.compile(r"__index_level_[0-9]+__")
_COUNTING = ("rownames", "Unnamed: 0")
"""What R and pandas call row numbers, and this package a first column without a name."""


def numbers_rows(table: Table, column: str) -> bool:
    """Whether a column is a pandas index, or one of row numbers from 0 or 1."""
    if _PANDAS.fullmatch(column):
        return True
    if column not in _COUNTING or not table.head[column].dtype.is_integer():
        return False
    begin = None
    for start, frame in table.blocks([column], block_rows(1)):
        if frame[column].null_count():
            return False
        values = frame[column].to_numpy()
        begin = int(values[0]) if begin is None else begin
        if begin not in (0, 1) or not (values == np.arange(start, start + len(values)) + begin).all():
            return False
    return True
