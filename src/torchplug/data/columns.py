"""Which columns of a table are target, features and weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from torchplug.data.parts import compact
from torchplug.data.table import Table, UsedRows
from torchplug.errors import DataError
from torchplug.preprocessing import check_columns
from torchplug.preprocessing.blocks import block_rows, worded_for_all_rows
from torchplug.preprocessing.features import Rows, raw_column, read_block
from torchplug.tables import default_target, describe, enumerate_names, require_columns


@dataclass(frozen=True)
class Columns:
    """The user's choice of columns.

    Args:
        target: what to predict; empty: what the source knows to be its target.
        features: what to predict from; None: all columns without another role.
        exclude: what is no feature.
        weights: the column of sample weights.
        dividing: columns that say how to split.
    """

    target: Sequence[str]
    features: Sequence[str] | None
    exclude: Sequence[str]
    weights: str | None
    dividing: Sequence[str]

    def __post_init__(self) -> None:
        """Refuse a column that is named twice."""
        for name, columns in (("target", self.target), ("features", self.features or ())):
            repeated = [column for column, count in Counter(columns).items() if count > 1]
            if repeated:
                raise DataError(f"{name} names {enumerate_names(repeated)} more than once")

    def target_of(self, source: Any, frame: pl.DataFrame) -> list[str]:
        """The target columns of a source.

        Raises:
            DataError: if nobody has said which they are.
        """
        columns = list(self.target) or default_target(source, frame)
        if not columns:
            raise DataError(
                f"{describe(source)}: which column is the target? Set target to one of its columns: "
                f"{enumerate_names(frame.columns)}"
            )
        return columns

    def features_of(self, frame: pl.DataFrame, target: Sequence[str], where: str) -> list[str]:
        """The feature columns, after a look at every column that a setting names.

        Raises:
            DataError: if one does not exist, is target too, or none is left.
        """
        roles = [*self.dividing, *([self.weights] if self.weights else [])]
        require_columns(frame, [*target, *self.exclude, *roles, *(self.features or [])], where)
        if self.features is None:
            taken = {*target, *roles, *self.exclude}
            columns = [column for column in frame.columns if column not in taken]
        else:
            excluded = set(self.exclude)
            columns = [column for column in self.features if column not in excluded]
        targets = set(target)
        both = [column for column in columns if column in targets]
        if both:
            raise DataError(f"{enumerate_names(both)} is given both as target and as feature")
        if not columns:
            raise DataError(f"{where}: no column is left to predict from")
        return columns


def complete_rows(table: Table, features: Sequence[str], target: Sequence[str], where: str) -> Rows:
    """The rows without a missing value in features or target.

    Raises:
        DataError: if there is none, and for features that cannot be used.
    """
    found = []
    used = UsedRows(table, where)
    # a column without any value is a better reason than rows without some
    with worded_for_all_rows(lambda: check_columns(used.columns(features), where)):
        for frame, start, places in used.blocks([*features, *target], block_rows(len(features))):
            read = frame.select(features).get_columns()
            columns = list(read_block(map(raw_column, read), read, where, places))
            columns += [s.fill_nan(None) if s.dtype.is_float() else s for s in frame.select(target)]
            incomplete = np.zeros(frame.height, dtype=np.bool_)
            for series in columns:
                if series.null_count():
                    incomplete |= series.is_null().to_numpy()
            found.append(start + np.flatnonzero(~incomplete))
        rows = np.concatenate(found)
        if not len(rows):
            raise DataError(f"{where}: every row has a missing value, so impute: drop leaves none")
    return compact(rows, table.height)
