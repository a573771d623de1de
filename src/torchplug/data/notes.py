"""What the user should know of a table and did not ask, in the order in which it is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from torchplug.preprocessing import EncodingRules, Preprocessing, Substitutions
from torchplug.preprocessing.columns import CategoricalColumn, Column, MarkedColumn
from torchplug.preprocessing.dates import DateColumn
from torchplug.preprocessing.rules import MOST_CATEGORIES
from torchplug.tables import enumerate_names

_FEW = 6
"""How many columns a note names at most."""


class Topic(IntEnum):
    """What a note is about; notes are ordered by it."""

    READING = 0
    COLUMNS = 1
    ROWS = 2
    MISSING = 3
    TYPES = 4
    CATEGORIES = 5
    TRAINING = 6


class Notes:
    """Notes by topic."""

    def __init__(self) -> None:
        self._texts: defaultdict[Topic, list[str]] = defaultdict(list)

    def add(self, topic: Topic, texts: Iterable[str]) -> None:
        """Add notes of a topic, each a line."""
        self._texts[topic] += texts

    @property
    def lines(self) -> list[str]:
        """All notes in order."""
        return [text for topic in Topic for text in self._texts[topic]]


def left_out_columns(names: Sequence[str], indices: Sequence[str], empty: Sequence[str]) -> list[str]:
    """A note on columns that are no features.

    Args:
        names: columns of text that identify rows.
        indices: columns that number the rows.
        empty: columns without any value.
    """
    parts = [
        f"{enumerate_names(columns, _FEW)} ({reason})"
        for columns, reason in (
            (names, "text that differs in nearly every row"),
            (indices, "numbers the rows"),
            (empty, "no value in any row"),
        )
        if columns
    ]
    return [f"left out: {'; '.join(parts)}; --data.features keeps a column that it names"] if parts else []


def left_out_rows(without_target: int, incomplete: int, rows: int, target: Sequence[str], where: str) -> list[str]:
    """Notes on rows that are not used.

    Args:
        without_target: rows without target.
        incomplete: rows with a target and without some feature, where these are dropped.
        rows: how many rows the table has.
        target: the target columns.
        where: the table's name; empty for the source.
    """
    notes = []
    if without_target:
        names = enumerate_names(target, _FEW)
        lacking = f"have no target ({names})" if len(target) == 1 else f"lack one of the targets {names}"
        notes.append(f"{_of(where)}left out: {without_target} of {rows} rows, which {lacking}")
    if incomplete:
        notes.append(
            f"{_of(where)}left out: {incomplete} of {rows} rows, which have missing values (--data.impute drop)"
        )
    return notes


def filled_in(
    substitutions: Substitutions, preprocessing: Preprocessing, where: str = "", rules: EncodingRules | None = None
) -> list[str]:
    """A note on missing values, with their number by column.

    Args:
        substitutions: of a whole table.
        preprocessing: which filled them in.
        where: the table's name; empty for the source.
        rules: by which it was fitted; None for one that a checkpoint carries.
    """
    filled = [column for column in preprocessing.encoders if column.name in substitutions.missing]
    if not filled:
        return []
    with_what = "" if rules is None else f" by the {_typical_value(filled, rules)}"
    marks = [column.feature_names[-1] for column in filled if isinstance(column, MarkedColumn)]
    marked = f", marked by {enumerate_names(marks, 2)}" if marks else ""
    counts = _counted(substitutions.missing, preprocessing.columns)
    return [f"{_of(where)}missing values filled in{with_what}{marked}: {counts} (--data.impute)"]


def _typical_value(columns: Sequence[Column], rules: EncodingRules) -> str:
    categories = [isinstance(column.fill, str) for column in columns]
    number = "most frequent number" if rules.number_fill == "most_frequent" else rules.number_fill
    values = {number: not all(categories), "most frequent category": any(categories)}
    return " or the ".join(value for value, occurs in values.items() if occurs)


def counted_times(preprocessing: Preprocessing) -> list[str]:
    """Notes on the units of dates and times of the day."""
    columns = [encoder.column if isinstance(encoder, MarkedColumn) else encoder for encoder in preprocessing.encoders]
    dates = [column for column in columns if isinstance(column, DateColumn)]
    notes = [f"{column.name}: {column.unit} (--data.dates)" for column in dates if not column.cyclic]
    cyclic = [column.name for column in dates if column.cyclic]
    return [*notes, *([f"as cycles: {enumerate_names(cyclic, _FEW)} (--data.dates)"] if cyclic else [])]


def shared_features(preprocessing: Preprocessing, rules: EncodingRules) -> list[str]:
    """Notes on categories that share a feature."""
    rare, many = dict[str, object](), dict[str, object]()
    for encoder in preprocessing.encoders:
        column = encoder.column if isinstance(encoder, MarkedColumn) else encoder
        if isinstance(column, CategoricalColumn) and column.has_other:
            kept = len(column.levels) + (column.reference is not None)
            count = f"more than {MOST_CATEGORIES}" if column.pools_all else len(column.pooled)
            (many if kept + 1 == rules.max_categories else rare)[column.feature_names[-1]] = count
    notes = []
    if rare:
        counts = _counted(rare, rare)
        notes.append(
            f"categories that occur once in the training split share a feature: {counts} (--data.handle_unknown)"
        )
    if many:
        notes.append(
            f"all but the {(rules.max_categories or 0) - 1} most frequent categories share a feature: "
            f"{_counted(many, many)} (--data.max_categories)"
        )
    return notes


def unknown_categories(substitutions: Substitutions, preprocessing: Preprocessing, where: str = "") -> list[str]:
    """A note on values that the training split lacks, with their number by column."""
    if not substitutions.unknown:
        return []
    counts = _counted(substitutions.unknown, preprocessing.columns)
    return [f"{_of(where)}rows whose category the training split lacks: {counts} (--data.handle_unknown)"]


@dataclass(frozen=True)
class SubstitutionNotes:
    """Notes on the imputed values and unknown categories of a table.

    Args:
        preprocessing: which encodes it.
        rules: by which it was fitted; None for one that a checkpoint carries.
        where: the table's name; empty for the source.
    """

    preprocessing: Preprocessing
    rules: EncodingRules | None
    where: str

    def add(self, counts: Mapping[str, Substitutions], notes: Notes, of_test: Notes) -> None:
        """Add notes on the splits that a table holds, those of the test split, which only `test` prints, by themselves.

        Args:
            counts: of each split.
            notes: of training and validation.
            of_test: of the test split.
        """
        seen = Substitutions.total(own for name, own in counts.items() if name != "test")
        self._add(seen, notes, self.where)
        self._add(counts.get("test", Substitutions()), of_test, self.where or "test split")

    def _add(self, substitutions: Substitutions, notes: Notes, where: str) -> None:
        notes.add(Topic.MISSING, filled_in(substitutions, self.preprocessing, where, self.rules))
        notes.add(Topic.CATEGORIES, unknown_categories(substitutions, self.preprocessing, where))


def _of(where: str) -> str:
    return f"{where}: " if where else ""


def _counted(counts: Mapping[str, object], order: Iterable[str]) -> str:
    return enumerate_names([f"{name} {counts[name]}" for name in order if name in counts], _FEW)


def training_notes(preprocessing: Preprocessing, sizes: Mapping[str, int], unused: int | None) -> list[str]:
    """Notes on what is trained on.

    Args:
        preprocessing: fitted.
        sizes: rows of each split.
        unused: a batch size that a full-batch optimizer does not use.
    """
    notes, rows = [], sizes["train"]
    named = zip(preprocessing.feature_names, preprocessing.scaling.zero_variance, strict=True)
    constant = [name for name, zero_variance in named if zero_variance]
    if constant:
        notes.append(f"constant in the training split, so without effect: {enumerate_names(constant)}")
    if not sizes["validation"]:
        notes.append(f"all {rows} training rows are trained on, and nothing is validated")
    if unused is not None:
        notes.append(
            f"the optimizer sees all {rows} training rows at once: batch_size {unused} is not used for training"
        )
    return notes
