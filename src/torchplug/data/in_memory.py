"""Splits in memory as tensors, and the tables from which they are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.batch import Rows
from torchplug.components.metrics import location_and_spread
from torchplug.data.block_encoding import encoded
from torchplug.data.columns import complete_rows, rows_with_target
from torchplug.data.far_rows import far_training_targets, far_validation_features, far_validation_targets
from torchplug.data.far_values import FarValues
from torchplug.data.fit import fit_in_memory
from torchplug.data.folds import Fold, Folding, resampled
from torchplug.data.loaders import Loader
from torchplug.data.notes import Notes, SubstitutionNotes, Topic, counted_times, left_out_rows, shared_features
from torchplug.data.precision import refuse_infinite
from torchplug.data.prepared import Prepared, Split
from torchplug.data.settings import TableSettings
from torchplug.data.splitting import SPLITS, DrawnRows, balance, compact
from torchplug.data.table import MemoryTable, Table, UsedRows, open_table
from torchplug.errors import DataError
from torchplug.memory import require_memory
from torchplug.preprocessing import DataRequirements, Preprocessing, Substitutions, TargetFit
from torchplug.preprocessing.columns import Column
from torchplug.preprocessing.rows import Rows as RowNumbers
from torchplug.preprocessing.target import TargetCoding
from torchplug.registry.component import Kind
from torchplug.tables import Types, describe, fingerprint_of_columns, require_columns, shown, types_of


class InMemorySplit(Split):
    """A split as tensors, of which `read` returns views.

    The features are kept once, in the precision last requested: a second copy in double precision would dominate the
    memory.

    Args:
        used: the rows of the table.
        drawn: indices (n,) of its rows among them, from 0, ascending; None: all.
        target: (n, k) float64 or (n,) int64.
        weight: (n,) float64 of mean 1; None where all are 1.
        preprocessing: what encodes the features.
    """

    def __init__(
        self,
        used: UsedRows,
        drawn: RowNumbers | None,
        target: Tensor,
        weight: Tensor | None,
        preprocessing: Preprocessing,
    ) -> None:
        self._used = used
        self._drawn = drawn
        self._features: Tensor | None = None
        self._target = target
        self._weight = weight
        self._preprocessing = preprocessing
        self._scale: tuple[Tensor, Tensor] | None = None
        self.samples = len(target)
        self.feature_names = tuple(preprocessing.feature_names)

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as they were read."""
        return self._used.select(self._used.table.head.columns, self._drawn)

    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Where the rows stand in their table, at once."""
        yield self._used.numbers(self._drawn)

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`, features and target without a copy."""
        features, target = self._in_precision(torch.float64)[start:stop], self._target[start:stop]
        weight = features.new_ones(len(features)) if self._weight is None else self._weight[start:stop]
        return Rows(features, target, weight)

    def sampled_features(self, count: int, dtype: torch.dtype) -> Tensor:
        """Features of evenly spaced rows."""
        features, n = self._in_precision(dtype), self.samples
        return features if n <= count else features[torch.arange(count) * n // count]

    def targets(self) -> Iterator[Tensor]:
        """The target, at once."""
        yield self._target

    def target_scale(self, coding: TargetCoding) -> tuple[Tensor, Tensor] | None:
        """Mean and population standard deviation of a numeric target; computed once."""
        if self._scale is None and not coding.task.has_classes:
            self._scale = location_and_spread(coding.original_units(self._target))
        return self._scale

    def loader(self, dtype: torch.dtype, **options: Any) -> Loader:
        """Batches of tensors that are converted once."""
        features, target, weight = self._in_precision(dtype), self._target, self._weight
        refuse_infinite(features)
        target = target.to(dtype) if target.is_floating_point() else target
        return Loader(features, target, None if weight is None else weight.to(dtype), **options)

    def keep(self, features: Tensor) -> None:
        """Keep features (n, d) from `encoded`."""
        self._features = features

    def _in_precision(self, dtype: torch.dtype) -> Tensor:
        """Return the features in this precision, replacing any other."""
        features = self._features
        if features is None or features.dtype != dtype:
            features = self._features = None  # its memory is free for the other
            (features,) = encoded(self._preprocessing, self._used, [self._drawn], dtype)
            self._features = features
        return features


class InMemoryTables:
    """Tables whose features, targets and weights are held in memory.

    Args:
        settings: the user's settings.
    """

    def __init__(self, settings: TableSettings) -> None:
        self._settings = settings
        self._sources = settings.sources
        self._tables: dict[str, tuple[Types, Table]] = {}
        self._is_fold = False

    def divided(self, rows: DrawnRows) -> InMemoryTables:
        """The source alone, with its rows dealt out so; what is open is shared.

        Raises:
            DataError: if validation has a table of its own.
        """
        settings = self._settings
        self._refuse_own_validation()
        splitting = replace(settings.splitting, rows=rows)
        source = {"source": settings.sources["source"]}
        found = InMemoryTables(replace(settings, sources=source, splitting=splitting))
        found._tables, found._is_fold = self._tables, True
        return found

    def test_rows(self, kind: Kind) -> NDArray[np.int64]:
        """The rows of the source in its test split, counted from 0 in the table, for a kind of loss."""
        used, frame, labels = self._target(kind)
        return used.numbers(self._divide(frame, labels, used).get("test", np.zeros(0, dtype=np.int64)))

    def folds(self, kind: Kind, folding: Folding) -> list[Fold]:
        """Folds of all rows of the source but those of its test split, counted from 0 in the table.

        Raises:
            DataError: if the rows cannot be divided so, or validation has a table of its own.
        """
        self._refuse_own_validation()
        used, frame, labels = self._target(kind)
        divided = self._divide(frame, labels, used)
        rows = np.sort(np.concatenate([divided["train"], divided["validation"]])).astype(np.int64)
        found = folding.divide(self._settings.splitting, frame, labels, rows, used.where)
        return [(used.numbers(training), used.numbers(validation)) for training, validation in found]

    def bootstrap(self, kind: Kind, samples: int, seed: int) -> list[Fold]:
        """Bootstrap samples of the training rows, with the rows that validate, counted from 0 in the table.

        Raises:
            DataError: if there are fewer than 2 training rows, or validation has a table of its own.
        """
        self._refuse_own_validation()
        used, frame, labels = self._target(kind)
        divided = self._divide(frame, labels, used)
        training = divided["train"].astype(np.int64)
        classes = self._settings.splitting.classes(labels, used.where)
        drawn = resampled(training, None if classes is None else classes[training], samples, seed, used.where)
        validation = used.numbers(divided["validation"])
        return [(used.numbers(rows), validation) for rows in drawn]

    def _refuse_own_validation(self) -> None:
        if "validation" in self._settings.own:
            raise DataError(
                "folds and samples take the rows that validate from the source: leave out the table for validation"
            )

    def fingerprints(self) -> dict[str, str]:
        """SHA-256 of each table's content, as hexadecimal text."""
        return {key: fingerprint_of_columns((table.height, _columns(table))) for key, table in self._opened().items()}

    @property
    def heights(self) -> dict[str, int]:
        """Number of rows of each table, unused ones included."""
        return {key: table.height for key, table in self._opened().items()}

    def _opened(self) -> dict[str, Table]:
        """The tables as they were read last."""
        return {key: self._tables[key][1] if key in self._tables else self._table(key, {}) for key in self._sources}

    def targets(self) -> Iterator[pl.DataFrame]:
        """The source's target columns, whole."""
        source, table = self._sources["source"], self._table("source", {})
        target = self._settings.columns.target_of(source, table.head)
        require_columns(table.head, target, describe(source))
        yield pl.DataFrame(list(table.columns(target)))

    def prepare(self, request: DataRequirements, dtype: torch.dtype) -> Prepared:
        """Read, divide, fit and encode."""
        settings, carried, notes, of_test = self._settings, request.preprocessing, Notes(), Notes()
        source, table = self._sources["source"], self._table("source", carried.types if carried else {})
        target = settings.columns.target_of(source, table.head)
        features = carried.columns if carried else settings.columns.features_of(table, target, describe(source), notes)
        if not carried:
            notes.add(Topic.READING, table.form_notes)
            notes.add(Topic.TYPES, table.type_notes)
        types = carried.types if carried else types_of(table.head)
        own = {key: self._table(key, types) for key in settings.own}
        used = {
            key: self._used(key, opened, features, target, notes) for key, opened in {"source": table, **own}.items()
        }
        far = FarValues()
        preprocessing, divided = self._divide_and_fit(request, used["source"], features, target, far)
        require_feature_memory(preprocessing.encoders, list(used.values()), dtype)
        rules = None if carried else settings.rules(request)
        if rules is not None:
            notes.add(
                Topic.TYPES, [*counted_times(preprocessing), *([] if preprocessing.scaling.bounds else far.notes)]
            )
            notes.add(Topic.CATEGORIES, shared_features(preprocessing, rules))
        made: dict[str, Split] = {}
        for key, rows in used.items():
            drawn: Mapping[str, RowNumbers | None] = divided if key == "source" else {key: None}
            found = self._splits(preprocessing, rows, drawn)
            if "train" in found:
                # will be asked for, and now there is still the memory that features need
                found["train"].target_scale(preprocessing.target_coding)
            counts = {name: Substitutions() for name in drawn}
            tensors = encoded(preprocessing, rows, list(drawn.values()), dtype, list(counts.values()))
            substituted = SubstitutionNotes(preprocessing, rules, settings.own_name(key))
            substituted.add(counts, notes, of_test)
            for split, split_features in zip(found.values(), tensors, strict=True):
                split.keep(split_features)
            made |= found
            if rules is not None and rules.scale == "standard" and "validation" in found:
                validated = [tensors[list(found).index("validation")]]
                far_rows = far_validation_features(found["validation"], validated, preprocessing, made["train"].samples)
                notes.add(Topic.TYPES, far_rows)
        if rules is not None:
            coding = preprocessing.target_coding
            notes.add(Topic.TYPES, far_training_targets(made["train"], coding))
            notes.add(Topic.TYPES, far_validation_targets(made["validation"], made["train"], coding))
        return Prepared(preprocessing, {name: made[name] for name in SPLITS}, notes.lines, of_test.lines)

    def prediction(self, preprocessing: Preprocessing, dtype: torch.dtype) -> InMemorySplit:
        """All rows of the source, with their features alone."""
        used = UsedRows(self._table("source", preprocessing.types), describe(self._sources["source"]))
        require_feature_memory(preprocessing.encoders, [used], dtype)
        split = InMemorySplit(used, None, torch.empty(len(used), 0, dtype=torch.float64), None, preprocessing)
        split.keep(*encoded(preprocessing, used, [None], dtype))
        return split

    def _table(self, key: str, known: Types, *, often: bool = False) -> Table:
        """A table by the types that are known, converted if it will be read often, as for folds."""
        types = self._settings.types(known)
        if key not in self._tables or self._tables[key][0] != types:
            self._tables[key] = types, open_table(self._sources[key], self._settings.form, types)
        table = self._tables[key][1]
        if (often or self._is_fold) and isinstance(table, MemoryTable):
            table.convert()
        return table

    def _used(self, key: str, table: Table, features: list[str], target: list[str], notes: Notes) -> UsedRows:
        """A table that has all columns, without the rows that cannot be used."""
        where = describe(self._sources[key])
        self._settings.require(table.head, key, features, target, where)
        used = rows = rows_with_target(table, target, where)
        if self._settings.impute == "drop":
            used = complete_rows(rows, features)
        missing, incomplete = table.height - len(rows), len(rows) - len(used)
        notes.add(Topic.ROWS, left_out_rows(missing, incomplete, table.height, target, self._settings.own_name(key)))
        return used

    def _target(self, kind: Kind) -> tuple[UsedRows, pl.DataFrame, pl.Series | None]:
        """The rows of the source that are used, their columns that are no features, and their classes if any."""
        source, table = self._sources["source"], self._table("source", {}, often=True)
        target = self._settings.columns.target_of(source, table.head)
        features = self._settings.columns.features_of(table, target, describe(source), Notes())
        used = self._used("source", table, features, target, Notes())
        frame = used.select(self._settings.needed_columns("source", [], target))
        goal = TargetFit(frame, target, kind, "")
        goal.check(frame, used.where, used.places)
        return used, frame, frame[target[0]] if goal.reading(used.where).labels else None

    def _divide_and_fit(
        self,
        request: DataRequirements,
        used: UsedRows,
        features: Sequence[str],
        target: Sequence[str],
        far: FarValues,
    ) -> tuple[Preprocessing, dict[str, RowNumbers]]:
        """Return the preprocessing, and the rows of each split that is drawn from the source."""
        settings, carried, where = self._settings, request.preprocessing, used.where
        # whole, since they are few: the columns that are no features
        frame = used.select(settings.needed_columns("source", [], target))
        if carried is not None:
            return carried, self._divide(frame, frame[target[0]] if carried.target_coding.labels else None, used)
        if len(used) < 2:
            raise DataError(f"{where} has one row to learn from: training needs at least two")
        goal = TargetFit(frame, target, request.kind, request.loss)
        goal.check(frame, where, used.places)
        reading = goal.reading(where)
        settings.refuse_reading(reading, request, where)
        divided = self._divide(frame, frame[target[0]] if reading.labels else None, used)
        goal.update(frame[divided["train"]])
        coding = settings.coding(goal, reading, request, where)
        rules = settings.rules(request)
        fitted = fit_in_memory(used, features, divided["train"], rules, far)
        return Preprocessing.of(fitted, coding, center=request.center, scale=rules.scale), divided

    def _divide(self, frame: pl.DataFrame, labels: pl.Series | None, used: UsedRows) -> dict[str, RowNumbers]:
        """Return the rows of each split that is drawn from the source."""
        settings, splitting = self._settings, self._settings.splitting
        if splitting.rows is not None:
            splitting.rows.refuse_beyond(used.table.height, used.where)
        splits = zip(SPLITS, splitting.divide(frame, labels, settings.own, used.where, used.places), strict=True)
        return {name: compact(rows, len(used)) for name, rows in splits if name not in settings.own}

    def _splits(
        self, preprocessing: Preprocessing, used: UsedRows, drawn: Mapping[str, RowNumbers | None]
    ) -> dict[str, InMemorySplit]:
        """Parts of a table, by what is drawn for them, with targets and weights."""
        frame = used.select(self._settings.goal_columns(preprocessing.info.columns))
        weights = self._settings.weights(frame, used.where, used.places)
        target = preprocessing.target(frame, used.where, used.places)
        made = {}
        for name, rows in drawn.items():
            index = slice(None) if rows is None else torch.from_numpy(rows)
            chosen, weight = target[index], None if weights is None else weights[index]
            weight = self._scaled(name, weight, chosen, preprocessing)
            made[name] = InMemorySplit(used, rows, chosen, weight, preprocessing)
        return made

    def _scaled(self, name: str, weight: Tensor | None, target: Tensor, preprocessing: Preprocessing) -> Tensor | None:
        """A split's weights, scaled to mean 1, after balancing classes if requested."""
        classes = preprocessing.info.classes
        if name == "train" and self._settings.class_weight and classes is not None:
            balanced = balance(target, len(classes))
            # scaled before as well, so that the product does not depend on the unit of the weights
            weight = balanced if weight is None else weight / weight.mean() * balanced
        return weight if weight is None or not len(weight) else weight / weight.mean()


def require_feature_memory(columns: Sequence[Column], tables: Sequence[UsedRows], dtype: torch.dtype) -> None:
    """Refuse features that do not fit into memory, before they are allocated.

    Args:
        columns: the feature columns.
        tables: the rows that will be encoded.
        dtype: of the features.

    Raises:
        DataError: naming the column with most features, what they would take, and the remedy.
    """
    rows, features = sum(map(len, tables)), sum(column.features for column in columns)
    largest = max(columns, key=lambda column: column.features)
    remedy = "read a Parquet file in pieces with stream, or leave columns out with exclude"
    widest = ""
    if largest.features > 1:
        widest = f", {largest.features} of them the categories of column '{shown(largest.name)}',"
        remedy = (
            "exclude that column, bound its features with --data.max_categories, or read a Parquet file in pieces with "
            "stream"
        )
    require_memory(
        rows * features * dtype.itemsize,
        f"{tables[0].where}: {rows} rows of {features} features{widest} in {dtype.itemsize * 8} bits each",
        remedy,
    )


def _columns(table: Table) -> Iterator[pl.Series]:
    """All columns of a table, one at a time."""
    yield from table.columns(table.head.columns)
