"""Folds for cross-validation, by the same rules as splits, and bootstrap samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from torchplug.data import split_methods
from torchplug.data.splitting import Rows, Splitting
from torchplug.errors import DataError

Fold = tuple[Rows, Rows]
"""The rows that train and those that validate."""


@dataclass(frozen=True)
class Folding:
    """Division of rows into folds.

    Args:
        folds: k ≥ 2, how many.
        repeats: how often all rows are divided, at least 1.
        seed: of folds that are drawn, 0 or more.

    Raises:
        DataError: for numbers out of their range.
    """

    folds: int
    repeats: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("folds", 2), ("repeats", 1), ("seed", 0)):
            _refuse_below(least, name, getattr(self, name))

    def divide(
        self, splitting: Splitting, frame: pl.DataFrame, labels: pl.Series | None, rows: Rows, where: str
    ) -> list[Fold]:
        """Return the folds, those of the first repeat first: whole groups, along time, by class or drawn.

        Args:
            splitting: the way in which the table is split.
            frame: all rows.
            labels: the class of each row; None for other targets.
            rows: which rows of the frame are divided, ascending.
            where: the table's name, for messages.

        Raises:
            DataError: if there are fewer rows, groups, times or members of a class than folds.
        """
        if len(rows) < self.folds:
            raise DataError(f"{where}: {self.folds} folds of {len(rows)} rows leave some empty: ask for fewer")
        if (ranks := splitting.ranks(frame, where)) is not None:
            return self._along_time(ranks[rows], rows, str(splitting.time), where)
        divide = self._divider(splitting, frame, labels, rows, where)
        found = []
        for repeat in range(self.repeats):
            seed = int(np.random.SeedSequence([self.seed, repeat]).generate_state(1)[0])
            for part in divide(seed):
                validates = np.zeros(len(rows), dtype=np.bool_)
                validates[part] = True
                found.append((rows[~validates], rows[validates]))
        return found

    def _divider(
        self, splitting: Splitting, frame: pl.DataFrame, labels: pl.Series | None, rows: Rows, where: str
    ) -> Callable[[int], list[Rows]]:
        """What draws the parts that validate, from a seed."""
        shares = [1 / self.folds] * self.folds
        if (groups := splitting.groups(frame, where)) is not None:
            own = groups[rows]
            if (count := len(np.unique(own))) < self.folds:
                raise DataError(
                    f"{where}: group column '{splitting.group}' has {_counted(count, 'group')} for {self.folds} folds, "
                    "and a group is never divided: ask for fewer folds"
                )
            return lambda seed: split_methods.grouped_split(own, shares, seed)
        if labels is not None and (classes := splitting.classes(labels, where)) is not None:
            own = classes[rows]
            self._refuse_small_class(labels[rows], where)
            return lambda seed: split_methods.stratified_split(own, shares, seed)
        return lambda seed: split_methods.random_split(len(rows), shares, seed)

    def _along_time(self, ranks: Rows, rows: Rows, column: str, where: str) -> list[Fold]:
        if self.repeats > 1:
            raise DataError(f"{where}: folds along '{column}' are the same in every repeat: leave out repeats")
        times = len(np.unique(ranks))
        folds = split_methods.forward_chaining(ranks, self.folds) if times > self.folds else []
        if not folds or not all(len(part) for fold in folds for part in fold):
            raise DataError(
                f"{where}: time column '{column}' has {times} different values in {len(rows)} rows, too few for "
                f"{self.folds} folds, each of which validates what comes later: ask for fewer"
            )
        return [(rows[training], rows[validation]) for training, validation in folds]

    def _refuse_small_class(self, labels: pl.Series, where: str) -> None:
        smallest, count = labels.alias("class").value_counts().sort("count", "class").row(0)
        if count < self.folds:
            raise DataError(
                f"{where}: class {smallest!r} has {_counted(count, 'row')} for {self.folds} folds: ask for fewer, or "
                "divide without regard to classes with --data.stratify false"
            )


def resampled(rows: Rows, classes: Rows | None, samples: int, seed: int, where: str) -> list[Rows]:
    """Return samples with replacement of as many rows as there are, each ascending.

    Args:
        rows: (n,).
        classes: of each row, (n,); each keeps its number of rows. None: rows are drawn from all.
        samples: how many.
        seed: 0 or more; sample i depends on seed and i alone.
        where: the table's name, for messages.

    Raises:
        DataError: for fewer than 2 rows, and numbers out of their range.
    """
    _refuse_below(1, "samples", samples)
    _refuse_below(0, "seed", seed)
    if len(rows) < 2:
        raise DataError(f"{where}: bootstrap samples of 1 training row are all equal: give more rows")
    strata = [rows] if classes is None else [rows[classes == own] for own in np.unique(classes)]
    found = []
    for sample in range(samples):
        random = np.random.default_rng([seed, sample])
        found.append(np.sort(np.concatenate([random.choice(own, len(own)) for own in strata])))
    return found


def _refuse_below(least: int, name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise DataError(f"{name} must be a whole number of at least {least}, not {value!r}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
