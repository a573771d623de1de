"""Encoding of tables in memory: a block of rows at a time, into one tensor per split."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.data.table import UsedRows, span
from torchplug.preprocessing import Preprocessing, Substitutions
from torchplug.preprocessing.blocks import block_rows, worded_for_all_rows
from torchplug.preprocessing.rows import Rows as RowNumbers


def encoded(
    preprocessing: Preprocessing,
    used: UsedRows,
    drawn: Sequence[RowNumbers | None],
    dtype: torch.dtype,
    substitutions: Sequence[Substitutions] = (),
) -> list[Tensor]:
    """Return the features of splits of a table, in one pass over its blocks.

    Args:
        preprocessing: fitted.
        used: the table's rows.
        drawn: indices of the rows of each split, ascending from 0; None: all.
        dtype: of the features; they are computed in float64.
        substitutions: count the imputed values and unknown categories of each split.

    Returns:
        (n, d) for each split of n rows.

    Raises:
        DataError: for rows that cannot be encoded.
    """
    d = preprocessing.scaling.features
    tensors = [torch.empty(len(used) if rows is None else len(rows), d, dtype=dtype) for rows in drawn]
    columns = preprocessing.reads(used.table.head.columns)
    size = block_rows(max(d, len(columns)))
    memory = np.empty((min(size, len(used)), d))
    with worded_for_all_rows(lambda: preprocessing.check(used.select(columns), used.where, used.places)):
        for frame, first, places in used.blocks(columns, size):
            block = memory[: frame.height]
            spans = [None if rows is None else span(rows, first, first + len(block)) for rows in drawn]
            index = [
                None if rows is None or ends is None else rows[slice(*ends)] - first
                for rows, ends in zip(drawn, spans, strict=True)
            ]
            counts = [own.among(_mask(len(block), rows)) for own, rows in zip(substitutions, index, strict=False)]
            preprocessing.encode(frame, block, used.where, places, counts)
            converted = torch.from_numpy(block).to(dtype)
            for rows, ends, features in zip(index, spans, tensors, strict=True):
                if rows is None or ends is None:
                    features[first : first + len(block)] = converted
                else:
                    torch.index_select(converted, 0, torch.from_numpy(rows), out=features[slice(*ends)])
    return tensors


def _mask(count: int, rows: RowNumbers | None) -> NDArray[np.bool_]:
    """Which of so many rows are among these; None: all."""
    mask = np.full(count, rows is None)
    if rows is not None:
        mask[rows] = True
    return mask
