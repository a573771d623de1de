"""Tables that are held in memory, and their parts as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
import torch
from torch import Tensor

from torchplug.batch import Rows
from torchplug.contracts import CLASS_KINDS
from torchplug.data import parts
from torchplug.data.columns import complete_rows
from torchplug.data.loaders import Loader
from torchplug.data.parts import PARTS, balance
from torchplug.data.prepared import Part, Prepared
from torchplug.data.settings import TableSettings, carried_reading
from torchplug.errors import DataError
from torchplug.metrics import location_and_spread
from torchplug.preprocessing import DataRequest, Preprocessing, TargetReading, read_columns, read_target
from torchplug.preprocessing.features import IMPUTE_REMEDY, refuse_missing
from torchplug.preprocessing.target import TargetCoding
from torchplug.tables import describe, fingerprint, read


class InMemoryPart(Part):
    """A part as tensors; what it reads are views of them.

    The features are kept once, in the precision that was last asked for: a copy of them in double precision beside the
    one that is trained on would be the largest thing in memory.

    Args:
        table: where its rows come from.
        drawn: which of them, (n,) from 0; None: all.
        rows: features (n, d) float64, target (n, k) float64 or (n,) int64, weight (n,) float64 of mean 1.
        preprocessing: what encodes the features, should they be needed anew.
    """

    def __init__(self, table: pl.DataFrame, drawn: parts.Rows | None, rows: Rows, preprocessing: Preprocessing) -> None:
        self._table = table
        self._drawn = drawn
        self._rows = rows
        self._preprocessing = preprocessing
        self.samples = len(rows.features)
        self.feature_names = tuple(preprocessing.feature_names)

    @property
    def frame(self) -> pl.DataFrame:
        """The rows as they were read."""
        return self._table if self._drawn is None else self._table[self._drawn]

    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`, without a copy."""
        _, target, weight = self._rows
        return Rows(*(tensor[start:stop] for tensor in (self._features(torch.float64), target, weight)))

    def targets(self) -> Iterator[Tensor]:
        """The target, at once."""
        yield self._rows.target

    def target_scale(self, coding: TargetCoding) -> tuple[Tensor, Tensor] | None:
        """Mean and population standard deviation of a numeric target."""
        if coding.kind in CLASS_KINDS:
            return None
        return location_and_spread(coding.original_units(self._rows.target), coding.kind)

    def loader(self, dtype: torch.dtype, **options: Any) -> Loader:
        """Batches of tensors that are converted once."""
        features, target = self._features(dtype), self._rows.target
        if not torch.isfinite(features).all():
            raise DataError("a feature is too large for float32: standardize, or train with precision 64-true")
        target = target.to(dtype) if target.is_floating_point() else target
        return Loader(features, target, self._rows.weight.to(dtype), **options)

    def _features(self, dtype: torch.dtype) -> Tensor:
        """The features in this precision, the only one that is kept; digits that are gone are encoded anew."""
        features: Tensor = self._rows.features
        if torch.finfo(features.dtype).bits < torch.finfo(dtype).bits:
            features = self._preprocessing.features(self.frame)
        if features.dtype != dtype:
            features = features.to(dtype)
        self._rows = self._rows._replace(features=features)
        return features


class InMemoryTables:
    """Tables that are read once and kept.

    Args:
        settings: the user's choices.
    """

    def __init__(self, settings: TableSettings) -> None:
        self._settings = settings
        self._sources = settings.sources
        self._frames: dict[str, pl.DataFrame] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the tables' content, as hexadecimal text."""
        return fingerprint(*(self._frame(key) for key in self._sources))

    def prepare(self, request: DataRequest) -> Prepared:
        """Read, divide, fit and encode."""
        settings, carried, notes = self._settings, request.preprocessing, list[str]()
        where, whole = describe(self._sources["source"]), self._frame("source")
        target = settings.columns.target_of(self._sources["source"], whole)
        features = carried.columns if carried is not None else settings.columns.features_of(whole, target, where)
        frames = {key: self._usable(key, features, target, notes) for key in self._sources}
        frame, rows = frames["source"]
        reading = carried_reading(carried) if carried is not None else self._read_target(request, target, frame, rows)
        labels = frame[target[0]] if reading.labels else None
        divided = settings.splitting.divide(frame, labels, settings.own, where)
        preprocessing = carried or self._fit(request, reading, frame, features, divided[0], where)
        encoded = {
            key: settings.encoded(preprocessing, frame, describe(self._sources[key]), rows)
            for key, (frame, rows) in frames.items()
        }
        finished = {}
        for name, drawn in zip(PARTS, divided, strict=True):
            if name in encoded:
                finished[name] = self._weighed(name, frames[name][0], None, encoded[name], preprocessing)
            else:
                index = torch.from_numpy(drawn)
                chosen = Rows(*(tensor[index] for tensor in encoded["source"]))
                finished[name] = self._weighed(name, frame, drawn, chosen, preprocessing)
        return Prepared(preprocessing, finished, notes)

    def prediction(self, preprocessing: Preprocessing) -> InMemoryPart:
        """All rows of the source, with their features alone."""
        frame = self._frame("source")
        features = preprocessing.features(frame, describe(self._sources["source"]))
        weight = torch.ones(len(features), dtype=torch.float64)
        return InMemoryPart(frame, None, Rows(features, features[:, :0], weight), preprocessing)

    def _frame(self, key: str) -> pl.DataFrame:
        if key not in self._frames:
            self._frames[key] = read(self._sources[key])
        return self._frames[key]

    def _usable(
        self, key: str, features: list[str], target: list[str], notes: list[str]
    ) -> tuple[pl.DataFrame, parts.Rows | None]:
        """A table that has all columns, without the rows that `impute: drop` leaves out, and which rows are left."""
        where, frame = describe(self._sources[key]), self._frame(key)
        self._settings.require(frame, key, features, target, where)
        if self._settings.impute != "drop":
            return frame, None
        rows = complete_rows(frame, features, target, where)
        if len(rows) < frame.height:
            notes.append(f"{where}: {frame.height - len(rows)} of {frame.height} rows dropped for missing values")
        return frame[rows], rows

    def _read_target(
        self, request: DataRequest, target: list[str], frame: pl.DataFrame, rows: parts.Rows | None
    ) -> TargetReading:
        where = describe(self._sources["source"])
        if frame.height < 2:
            raise DataError(f"{where} has one row to learn from: training needs at least two")
        reading = read_target(frame, target, request.kind, request.loss, where, rows)
        self._settings.refuse_reading(reading, request, where)
        return reading

    def _fit(
        self,
        request: DataRequest,
        reading: TargetReading,
        frame: pl.DataFrame,
        features: list[str],
        train: parts.Rows,
        where: str,
    ) -> Preprocessing:
        settings = self._settings
        table = read_columns(frame, features, where)
        if settings.impute is None:
            refuse_missing(table.get_columns(), where, IMPUTE_REMEDY)
        scaled = settings.scales_target(request)
        coding = TargetCoding.fit(frame[train], reading, standardize=scaled, center=request.center, where=where)
        return Preprocessing.fit(
            table[train],
            coding,
            center=request.center,
            standardize=settings.standardize,
            reference=settings.uses_reference(request),
            pool=settings.unseen == "other",
            impute=settings.impute,
        )

    def _weighed(
        self, name: str, table: pl.DataFrame, drawn: parts.Rows | None, rows: Rows, preprocessing: Preprocessing
    ) -> InMemoryPart:
        """The part with its weights scaled to mean 1, balanced over classes first where that is asked for."""
        weight, classes = rows.weight, preprocessing.info.classes
        if name == "train" and self._settings.class_weight and classes is not None:
            # scaled before too, so that the product's size does not hang on the unit of the weights
            weight = weight / weight.mean() * balance(rows.target, len(classes))
        weight = weight / weight.mean() if len(weight) else weight
        return InMemoryPart(table, drawn, rows._replace(weight=weight), preprocessing)
