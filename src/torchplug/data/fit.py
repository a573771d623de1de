"""Fitting of preprocessing by accumulators, fed a column at a time in memory and some rows at a time streamed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from torchplug.data.far_values import FarValues
from torchplug.data.parquet import file_block_rows
from torchplug.data.selection import FileBlock, Selection, refuse_no_row
from torchplug.data.settings import TableSettings
from torchplug.data.splitting import SPLITS
from torchplug.data.table import UsedRows
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements, EncodingRules, Preprocessing, TargetFit, check_columns
from torchplug.preprocessing.column_fit import CategoryFit, ColumnFit, FittedColumn, column_fit
from torchplug.preprocessing.columns import raw_column
from torchplug.preprocessing.features import read_block, read_column
from torchplug.preprocessing.refusals import IMPUTE_REMEDY, refuse_missing
from torchplug.preprocessing.rows import Rows


def fit_in_memory(
    used: UsedRows, features: Sequence[str], train: Rows, rules: EncodingRules, far: FarValues
) -> list[FittedColumn]:
    """Fit feature columns, one whole column at a time.

    Args:
        used: all rows, which are checked.
        features: the feature columns.
        train: the rows that train, ascending from 0; several times in a bootstrap sample.
        rules: the user's choices.
        far: receives all rows as well.

    Raises:
        DataError: for values that cannot be used, counted over all rows.
    """
    fitted = []
    index = None if np.array_equal(train, np.arange(len(used))) else pl.Series(train, dtype=pl.UInt32)
    for series in used.columns(features):
        values = read_column(series, used.where, used.places)
        if not rules.fills and values.null_count():
            check_columns(used.columns(features), used.where, used.places, complete=True)
        far.look([series], used.places)
        column = column_fit(raw_column(series), rules)
        column.update(values if index is None else values.gather(index), used.where)
        fitted.append(column.fitted())
    return fitted


def fit_streamed(
    settings: TableSettings,
    request: DataRequirements,
    selection: Selection,
    features: Sequence[str],
    target: Sequence[str],
    far: FarValues,
) -> Preprocessing:
    """Fit features and target in one pass over a file.

    Args:
        settings: the user's choices.
        request: the module's requirements.
        selection: the source's rows.
        features: the feature columns.
        target: the target columns.
        far: receives all rows as well.

    Returns:
        The preprocessing, equal to that of a table in memory up to rounding.

    Raises:
        DataError: as for a table in memory, and for columns with more values than can be counted.
    """
    path, head = selection.table.path, selection.table.head
    counts = np.zeros(len(SPLITS), dtype=np.int64)
    rules = settings.rules(request, streamed=True)
    columns = {name: column_fit(raw_column(head[name]), rules) for name in features}
    without_target = 0
    goal = TargetFit(head, target, request.kind, request.loss, bounded=True)
    for block in selection.blocks(file_block_rows(len(features) + len(target)), [*features, *target]):
        without_target += block.without_target
        goal.check(block.frame, block.where, block.rows)
        raw = block.frame.select(features).get_columns()
        far.look(raw, block.rows)
        table = pl.DataFrame(list(read_block(map(raw_column, raw), raw, block.where, block.rows)))
        if not rules.fills:
            refuse_missing(table.get_columns(), block.where, IMPUTE_REMEDY, block.rows)
        for values in FileBlock(table, block.rows, block.splits, block.where).of(0).frame:
            columns[values.name].update(values, block.where)
        goal.update(block.of(0).frame)
        counts += np.bincount(block.splits, minlength=len(SPLITS))
    if counts.sum() == 0:
        refuse_no_row(selection, without_target)
    if counts.sum() == 1:
        raise DataError(f"{path} has one row to learn from: training needs at least two")
    reading = goal.reading(path)
    settings.refuse_reading(reading, request, path)
    settings.splitting.refuse_empty(counts.tolist(), settings.own, path)
    _recount(columns, selection)
    coding = settings.coding(goal, reading, request, path)
    fitted = [column.fitted() for column in columns.values()]
    return Preprocessing.of(fitted, coding, center=request.center, scale=rules.scale)


def _recount(columns: Mapping[str, ColumnFit], selection: Selection) -> None:
    """Count the categories again of columns that have too many to be counted in one pass."""
    for name, column in columns.items():
        if isinstance(column, CategoryFit) and not column.values.complete:
            blocks = selection.blocks(file_block_rows(1), [name])
            training = ((block.of(0).frame[name], block.where) for block in blocks)
            column.values.recount(read_column(series, where).drop_nulls() for series, where in training)
