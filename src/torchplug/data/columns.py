"""Which columns of a table are target, features and weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from torchplug.data.indices import numbers_rows
from torchplug.data.notes import Notes, Topic, left_out_columns
from torchplug.data.splitting import compact
from torchplug.data.table import Table, UsedRows, has_value
from torchplug.data.text_columns import text_columns
from torchplug.errors import DataError
from torchplug.preprocessing import check_columns
from torchplug.preprocessing.blocks import block_rows, worded_for_all_rows
from torchplug.preprocessing.columns import raw_column
from torchplug.preprocessing.features import read_block
from torchplug.preprocessing.rows import Rows
from torchplug.tables import default_target, describe, enumerate_names, require_columns

NO_COMPLETE_ROW = "every row lacks a feature, so --data.impute drop leaves none: set it to auto, or leave columns out"


def no_target(target: Sequence[str]) -> str:
    """What is wrong with a table without any target."""
    return f"no row has a target ({enumerate_names(target)}): choose another column with --data.target"


@dataclass(frozen=True)
class Columns:
    """The user's choice of columns.

    Args:
        target: what to predict; empty: the target of a bundled source.
        features: what to predict from; None: all columns without another role.
        exclude: what is no feature.
        weights: the column of sample weights.
        dividing: columns that say how to split.
        categories: what holds categories, whatever its values are.
    """

    target: Sequence[str]
    features: Sequence[str] | None
    exclude: Sequence[str]
    weights: str | None
    dividing: Sequence[str]
    categories: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Refuse a column that is named twice."""
        for name, columns in (("target", self.target), ("features", self.features or ())):
            repeated = [column for column, count in Counter(columns).items() if count > 1]
            if repeated:
                raise DataError(f"{name} names {enumerate_names(repeated)} more than once")

    def target_of(self, source: Any, frame: pl.DataFrame) -> list[str]:
        """The target columns of a source.

        Raises:
            DataError: if they are not named.
        """
        columns = list(self.target) or default_target(source, frame)
        if not columns:
            raise DataError(
                f"{describe(source)}: which column is the target? Set target to one of its columns: "
                f"{enumerate_names(frame.columns)}"
            )
        return columns

    def features_of(self, table: Table, target: Sequence[str], where: str, notes: Notes) -> list[str]:
        """The feature columns; every column that a setting names is checked.

        Raises:
            DataError: if one does not exist, is target too, or none is left.
        """
        frame = table.head
        roles = [*self.dividing, *([self.weights] if self.weights else [])]
        named = [*target, *self.exclude, *roles, *(self.features or []), *self.categories]
        require_columns(frame, named, where)
        unwanted = {*self.exclude} if self.features is not None else {*target, *roles, *self.exclude}
        candidates = frame.columns if self.features is None else self.features
        columns = [column for column in candidates if column not in unwanted]
        texts = text_columns(table, list(dict.fromkeys([*columns, *target])), declared=self.categories)
        for text in texts.values():
            text.refuse_other_words(where)
        left_out: list[str] = []
        if self.features is None:
            identifiers = [column for column in columns if column in texts and texts[column].identifies]
            empty = without_value(table, columns)
            indices = [column for column in columns if numbers_rows(table, column)]
            left_out = left_out_columns(identifiers, indices, empty)
            notes.add(Topic.COLUMNS, left_out)
            unwanted = {*identifiers, *empty, *indices}
            columns = [column for column in columns if column not in unwanted]
        targets = set(target)
        both = [column for column in columns if column in targets]
        if both:
            raise DataError(f"{enumerate_names(both)} is given both as target and as feature")
        if not columns:
            raise DataError(f"{where}: no column is left to predict from{''.join(f'; {note}' for note in left_out)}")
        return columns


def without_value(table: Table, columns: Sequence[str]) -> list[str]:
    """Those of the columns that have no value in any row; rows beyond the first are read only of those that may."""
    found = list(columns)
    start, rows = 0, block_rows(max(1, len(columns)))
    while found and start < table.height:
        stop = min(start + rows, table.height)
        found = [series.name for series in table.read(start, stop, found) if not _holds_any(series)]
        start = stop
    return found


def _holds_any(series: pl.Series) -> bool:
    if series.null_count() == len(series):
        return False
    # mostly the first value is one, and to ask for more takes long in a table of many columns
    first = series[0] if series.dtype.is_float() else None
    return not series.dtype.is_float() or (first is not None and first == first) or bool(has_value(series).any())


def rows_with_target(table: Table, target: Sequence[str], where: str) -> UsedRows:
    """The rows of a table that have a value in every target column.

    Raises:
        DataError: if there is none.
    """
    present = np.ones(table.height, dtype=np.bool_)
    for series in table.columns(target):
        present &= has_value(series)
    if not present.any():
        raise DataError(f"{where}: {no_target(target)}")
    return UsedRows(table, where, None if present.all() else compact(np.flatnonzero(present), table.height))


def complete_rows(used: UsedRows, features: Sequence[str]) -> UsedRows:
    """Those of the rows that have a value in every feature.

    Raises:
        DataError: if there is none, and for features that cannot be used.
    """
    found: list[Rows] = []
    with worded_for_all_rows(lambda: check_columns(used.columns(features), used.where)):
        for frame, _, places in used.blocks(features, block_rows(len(features))):
            raw = frame.get_columns()
            complete = np.ones(frame.height, dtype=np.bool_)
            for series in read_block(map(raw_column, raw), raw, used.where, places):
                if series.null_count():
                    complete &= series.is_not_null().to_numpy()
            found.append(places[complete])
    rows = np.concatenate(found)
    if not len(rows):
        raise DataError(f"{used.where}: {NO_COMPLETE_ROW}")
    return used if len(rows) == len(used) else replace(used, places=compact(rows.astype(np.int64), used.table.height))
