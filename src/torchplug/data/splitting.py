"""Division of a table into splits, and weights of its rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.batch import SplitName
from torchplug.data.split_methods import drawn_splits, grouped_split, ordered_split, random_split, stratified_split
from torchplug.errors import DataError
from torchplug.preprocessing.refusals import refuse_infinite, refuse_missing
from torchplug.preprocessing.rows import Rows as RowNumbers
from torchplug.preprocessing.rows import row_number
from torchplug.tables import enumerate_names

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DrawnRows:
    """Rows of a table that train and validate, each (n,) ascending, counted from 0 in the table as it was given.

    In a bootstrap sample rows may train several times.
    """

    training: Rows
    validation: Rows

    @classmethod
    def of(cls, training: Any, validation: Any, replacement: bool = False) -> DrawnRows:
        """Read a fold.

        Args:
            training: whole numbers (n,).
            validation: the same.
            replacement: whether rows may train several times.

        Raises:
            DataError: if rows are no whole numbers, occur twice, or in both.
        """
        both = []
        for name, given in (("training", training), ("validation", validation)):
            rows = np.asarray(given)
            if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
                raise DataError(f"a fold's {name} rows are whole numbers (n,), not {rows.dtype} of shape {rows.shape}")
            found = np.sort(rows.astype(np.int64))
            repeated = found[1:][found[1:] == found[:-1]]
            if repeated.size and not (replacement and name == "training"):
                raise DataError(f"a fold's {name} rows have {repeated[0]} twice")
            both.append(found)
        shared = np.intersect1d(both[0], both[1])
        if shared.size:
            raise DataError(f"a fold trains on row {shared[0]} and validates on it: leave it out of one")
        return cls(*both)

    def refuse_beyond(self, height: int, where: str) -> None:
        """Refuse rows that a table of this height does not have.

        Raises:
            DataError: naming the first of them.
        """
        for rows in (self.training, self.validation):
            beyond = rows[(rows < 0) | (rows >= height)]
            if beyond.size:
                raise DataError(f"{where} has rows 0 to {height - 1}, and a fold has row {beyond[0]}")

    def divide(self, height: int, places: RowNumbers | None) -> list[Rows]:
        """Which of the rows that are used train, validate and test; `places` says where in the table these stand."""
        used = np.arange(height) if places is None else places
        return [*(_positions(used, rows) for rows in (self.training, self.validation)), np.zeros(0, dtype=np.int64)]


def _positions(among: RowNumbers, rows: Rows) -> Rows:
    """Where rows stand among others, both ascending; those that are not there are left out."""
    found = np.searchsorted(among, rows)
    within = found < len(among)
    found = found[within]
    equal: Rows = found[among[found] == rows[within]].astype(np.int64)
    return equal


@dataclass(frozen=True)
class Splitting:
    """Assignment of a table's rows to splits.

    Args:
        ratios: of training, validation and test, adding up to 1.
        stratify: whether a random split preserves class proportions.
        seed: of random and grouped splits.
        column: one that says `train`, `validation` or `test` in each row.
        group: one whose equal values stay together.
        time: one along which the earliest rows train.
        rows: which rows train and validate, where they are drawn already; the other settings are then of no use.
    """

    ratios: tuple[float, float, float]
    stratify: bool = True
    seed: int = 0
    column: str | None = None
    group: str | None = None
    time: str | None = None
    rows: DrawnRows | None = None

    def __post_init__(self) -> None:
        """Refuse two ways of splitting at once, and a negative seed."""
        ways = {"split_column": self.column, "group": self.group, "time": self.time}
        given = [way for way, column in ways.items() if column is not None]
        if len(given) > 1:
            raise DataError(f"{' and '.join(given)} are two ways of splitting: give one")
        if self.seed < 0:
            raise DataError(f"seed must be 0 or more, not {self.seed}")

    def divide(
        self,
        frame: pl.DataFrame,
        labels: pl.Series | None,
        own: Collection[str],
        where: str,
        places: RowNumbers | None = None,
    ) -> list[Rows]:
        """Return the rows of training, validation and test.

        Args:
            frame: all rows.
            labels: the class of each row; None for other targets.
            own: the splits with a separate file; the other ratios are scaled up.
            where: the table's name, for messages.
            places: where in the table the rows stand, from 0, ascending; None: all are here.

        Raises:
            DataError: if a requested split is empty.
        """
        if self.rows is not None:
            splits = self.rows.divide(frame.height, places)
            if not len(splits[0]):
                raise DataError(f"{where}: a fold has no row to train on")
            return splits
        if self.column is not None:
            codes = _column_codes(frame[self.column], where, None)
            splits = [np.flatnonzero(codes == code) for code in range(len(SPLITS))]
        else:
            splits = self._by_ratio(frame, labels, self._shares(own), where)
        self.refuse_empty([len(split) for split in splits], own, where)
        return splits

    def split_of(
        self, frame: pl.DataFrame, rows: Rows, own: Collection[str], where: str
    ) -> NDArray[np.int8] | NDArray[np.int64]:
        """Return the split of each row, independently of other rows: (n,) indices into `SPLITS`.

        Args:
            frame: the rows.
            rows: their positions in the user's table, from 0, ascending.
            own: the splits with a separate file.
            where: the rows' name, for messages.

        Raises:
            DataError: if the split column holds anything but the splits' names.
        """
        if self.column is not None:
            return _column_codes(frame[self.column], where, rows)
        if not len(rows):
            return rows
        first = int(rows[0])
        return drawn_splits(first, int(rows[-1]) + 1 - first, self._shares(own), self.seed)[rows - first]

    def refuse_empty(self, counts: Sequence[int], own: Collection[str], where: str) -> None:
        """Refuse a division in which a requested split is empty.

        Args:
            counts: the rows of training, validation and test.
            own: the splits with a separate file.
            where: the table's name, for messages.

        Raises:
            DataError: naming the split.
        """
        wanted = [True, False, False] if self.column is not None else [share > 0 for share in self._shares(own)]
        for name, count, needed in zip(SPLITS, counts, wanted, strict=True):
            if needed and not count:
                cause = f"column '{self.column}'" if self.column else f"split {_format(self.ratios)}"
                raise DataError(
                    f"{where}: {cause} of {sum(counts)} rows leaves the {name} split empty: "
                    "change it, or give more rows"
                )

    def groups(self, frame: pl.DataFrame, where: str) -> Rows | None:
        """Whole numbers (n,) that are equal for rows of one group; None without groups.

        Raises:
            DataError: if a row has no group.
        """
        return None if self.group is None else _codes(frame[self.group], where)

    def ranks(self, frame: pl.DataFrame, where: str) -> Rows | None:
        """Whole numbers (n,) that rise with time; None without a time.

        Raises:
            DataError: if a row has no time, or the order of times is unknown.
        """
        return None if self.time is None else _codes(_refuse_unordered(frame[self.time], where), where)

    def classes(self, labels: pl.Series | None, where: str) -> Rows | None:
        """Whole numbers (n,) that are equal for rows of one class; None where classes are not preserved."""
        return None if labels is None or not self.stratify else _codes(labels, where)

    def _shares(self, own: Collection[str]) -> list[float]:
        shares = [0.0 if split in own else ratio for split, ratio in zip(SPLITS, self.ratios, strict=True)]
        return [share / sum(shares) for share in shares]

    def _by_ratio(
        self, frame: pl.DataFrame, labels: pl.Series | None, shares: Sequence[float], where: str
    ) -> list[Rows]:
        if (groups := self.groups(frame, where)) is not None:
            return grouped_split(groups, shares, self.seed)
        if (ranks := self.ranks(frame, where)) is not None:
            return ordered_split(ranks, shares)
        if (classes := self.classes(labels, where)) is not None:
            return stratified_split(classes, shares, self.seed)
        return random_split(frame.height, shares, self.seed)


def check_ratios(split: Sequence[float]) -> tuple[float, float, float]:
    """Ratios of training, validation and test; missing ones are 0.

    Raises:
        DataError: if they are not one to three numbers of at least 0 that add up to 1, the first above 0.
    """
    ratios = [float(ratio) for ratio in split]
    shown = _format(ratios)
    if not 1 <= len(ratios) <= 3:
        raise DataError(f"split {shown} must have up to three ratios: training, validation, test")
    if any(not math.isfinite(ratio) or ratio < 0 for ratio in ratios):
        raise DataError(f"split {shown} has a ratio below 0 or no number")
    if abs(sum(ratios) - 1) > 1e-9:
        raise DataError(f"split {shown} adds up to {sum(ratios):g}: the ratios must add up to 1")
    if ratios[0] == 0:
        raise DataError(f"split {shown} leaves no row to train on")
    padded = [*ratios, 0.0, 0.0]
    return padded[0], padded[1], padded[2]


def sample_weights(series: pl.Series, where: str, rows: RowNumbers | None = None) -> Tensor:
    """A column of sample weights as given, (n,) float64.

    Raises:
        DataError: naming the first row whose weight is missing, infinite, zero or negative.
    """
    if not series.dtype.is_numeric():
        raise DataError(f"{where}: weights column '{series.name}' has type {series.dtype}, and numbers are expected")
    values = series.cast(pl.Float64).fill_nan(None)
    refuse_missing([values], where, "every row needs a weight", rows)
    refuse_infinite(values, where, rows)
    bad = values <= 0
    if bad.any():
        raise DataError(
            f"{where}: weights column '{series.name}' has {values.filter(bad)[0]:g} in row {row_number(bad, rows)}: "
            "weights must be positive"
        )
    return torch.tensor(values.to_numpy())


def balance(codes: Tensor, classes: int) -> Tensor:
    """n/(c·n_c) for each row, c classes with n_c rows each, so that all classes have equal weight.

    Shape:
        codes (n,) or (n, 1), class indices → (n,) float64.
    """
    indices = codes.reshape(-1).long()
    return balanced_factors(torch.bincount(indices, minlength=classes))[indices]


def balanced_factors(rows: Tensor) -> Tensor:
    """n/(c·n_c) for each of c classes from their rows n_c; 0 for a class without rows.

    Shape:
        (c,) → (c,) float64.
    """
    rows = rows.double()
    return torch.where(rows > 0, rows.sum() / (len(rows) * rows), 0.0)


def compact(rows: Rows, height: int) -> RowNumbers:
    """Row numbers in the smallest sufficient integer type."""
    return rows.astype(np.int32) if height < 2**31 else rows


def _format(ratios: Sequence[float]) -> str:
    return f"[{', '.join(f'{ratio:g}' for ratio in ratios)}]"


def _codes(series: pl.Series, where: str) -> Rows:
    """Whole numbers in the order of a column's values, equal where these are equal."""
    refuse_missing([series], where, "a split needs a value in every row")
    codes: Rows = series.rank("dense").to_numpy().astype(np.int64)
    return codes


def _refuse_unordered(series: pl.Series, where: str) -> pl.Series:
    """Text sorts by time only if it is written as ISO 8601 has it, the year first."""
    if series.dtype == pl.String and not series.str.contains(r"^\d{4}-\d{2}-\d{2}").all():
        raise DataError(
            f"{where}: time column '{series.name}' has text that is no date like 2024-12-31, "
            "so its order is unknown: write ISO 8601 dates or numbers"
        )
    return series


def _column_codes(series: pl.Series, where: str, rows: Rows | None) -> Rows:
    """Indices into `SPLITS` from a column of their names."""
    texts = series.cast(pl.String).fill_null("")
    bad = ~texts.is_in(SPLITS)
    if bad.any():
        raise DataError(
            f"{where}: split column '{series.name}' has '{texts.filter(bad)[0]}' in row {row_number(bad, rows)}: "
            f"its values must be {enumerate_names(SPLITS)}"
        )
    codes: Rows = texts.replace_strict(list(SPLITS), list(range(len(SPLITS))), return_dtype=pl.Int64).to_numpy()
    return codes
