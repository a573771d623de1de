"""The user's settings for tables, in memory and streamed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import polars as pl
from torch import Tensor

from torchplug.batch import Rows
from torchplug.data.columns import Columns
from torchplug.data.splitting import Splitting, sample_weights
from torchplug.errors import DataError
from torchplug.preprocessing import (
    DataRequirements,
    EncodingRules,
    HandleUnknown,
    Impute,
    Preprocessing,
    Scale,
    TargetFit,
    TargetReading,
)
from torchplug.preprocessing.dates import Dates
from torchplug.preprocessing.rows import Rows as RowNumbers
from torchplug.preprocessing.rules import BY_RANK
from torchplug.preprocessing.target import TargetCoding
from torchplug.tables import BUNDLED, CsvFormat, Types, describe, enumerate_names, require_columns


@dataclass(frozen=True, eq=False)
class TableSettings:
    """The user's settings, as documented by `TabularData`.

    Args:
        sources: the tables by role: `source`, and `validation` and `test` if they are separate.
        form: settings for CSV files.
        dates: how dates become features.
        splitting: how the source's rows are divided.
        columns: the roles of columns.
        class_weight: whether classes have equal weight in training.
        encode: which levels of a category get a feature.
        handle_unknown: treatment of categories absent from the training split.
        max_categories: maximum number of features per categorical column; None: no bound.
        impute: treatment of missing values.
        scale: how features are scaled.
        standardize_target: whether regression targets are standardized.
        clip_target: whether predictions are clipped to the training target's range; "auto": those of numbers, unless
            rows are split by time.
    """

    sources: dict[str, Any]
    form: CsvFormat
    dates: Dates
    splitting: Splitting
    columns: Columns
    class_weight: Literal["balanced"] | None
    encode: Literal["auto", "onehot", "reference"]
    handle_unknown: HandleUnknown
    max_categories: int | None
    impute: Impute
    scale: Scale
    standardize_target: bool | Literal["auto"]
    clip_target: bool | Literal["auto"]

    def __post_init__(self) -> None:
        """Refuse what cannot be chosen."""
        if "source" not in self.sources:
            raise DataError(f"no source: give a file, a table, or a bundled name ({', '.join(BUNDLED)})")
        _refuse_choice("class_weight", self.class_weight, ("balanced", None))
        _refuse_choice("encode", self.encode, ("auto", "onehot", "reference"))
        _refuse_choice("handle_unknown", self.handle_unknown, get_args(HandleUnknown))
        _refuse_choice("dates", self.dates, get_args(Dates))
        _refuse_choice("impute", self.impute, get_args(Impute))
        _refuse_choice("scale", self.scale, get_args(Scale))
        if self.max_categories is not None and self.max_categories < 2:
            raise DataError(f"max_categories must be at least 2, or none, not {self.max_categories}")
        _refuse_choice("standardize_target", self.standardize_target, (True, False, "auto"))
        _refuse_choice("clip_target", self.clip_target, (True, False, "auto"))
        if self.splitting.column is not None and self.own:
            raise DataError("split_column already says which rows validate and test: give no files for these splits")

    @property
    def own(self) -> list[str]:
        """The splits that come from a table of their own."""
        return [key for key in self.sources if key != "source"]

    def types(self, known: Types) -> Types:
        """The types of columns that are decided: `known` ones, and the categories that the user names."""
        return {**known, **dict.fromkeys(self.columns.categories, pl.String)}

    def own_name(self, key: str) -> str:
        """Return a table's name in notes: empty for the source."""
        return "" if key == "source" else describe(self.sources[key])

    def coding(self, goal: TargetFit, reading: TargetReading, request: DataRequirements, where: str) -> TargetCoding:
        """How a target that `goal` was fitted to is encoded."""
        automatic = self.standardize_target == "auto"
        standardize = request.standardize_target if automatic else bool(self.standardize_target)
        clips = reading.task.standardizes and self.splitting.time is None
        clip = clips if self.clip_target == "auto" else self.clip_target
        return goal.coding(reading, where, standardize=standardize, center=request.center, clip=clip)

    def rules(self, request: DataRequirements, *, streamed: bool = False) -> EncodingRules:
        """How columns become features.

        Raises:
            DataError: if the scaling needs all values and rows are streamed, or if it shifts features of a model
                without bias.
        """
        if self.scale in BY_RANK and streamed:
            raise DataError(
                f"scale: {self.scale} needs every value at once, which stream does not hold: use standard or none"
            )
        if self.scale in BY_RANK and not request.center:
            raise DataError(
                f"scale: {self.scale} shifts features, and a model without bias must not: use standard or none"
            )
        reference = request.reference if self.encode == "auto" else self.encode == "reference"
        return EncodingRules(
            self.impute, self.handle_unknown, self.max_categories, reference, self.dates, streamed, self.scale
        )

    def needed_columns(self, key: str, features: Sequence[str], target: Sequence[str]) -> list[str]:
        """The columns that a table must have, each once.

        Args:
            key: which of the sources it is.
            features: the feature columns.
            target: the target columns.
        """
        dividing = self.columns.dividing if key == "source" else ()
        return list(dict.fromkeys([*features, *self.goal_columns(target), *dividing]))

    def goal_columns(self, target: Sequence[str]) -> list[str]:
        """The target columns and that of the weights, each once."""
        return list(dict.fromkeys([*target, *([self.columns.weights] if self.columns.weights else [])]))

    def require(
        self, frame: pl.DataFrame, key: str, features: Sequence[str], target: Sequence[str], where: str
    ) -> None:
        """Refuse a table that lacks a column."""
        require_columns(frame, self.needed_columns(key, features, target), where)

    def refuse_reading(self, reading: TargetReading, request: DataRequirements, where: str) -> None:
        """Refuse settings that do not suit the target."""
        for name, chosen in (("standardize_target", self.standardize_target), ("clip_target", self.clip_target)):
            if chosen is True and not reading.task.standardizes:
                loss = request.loss or "the loss"
                raise DataError(f"{name} is for regression, and {loss} is for {reading.kind} targets")
        if self.class_weight and not reading.labels:
            names = enumerate_names(reading.columns)
            raise DataError(f"{where}: class_weight needs class labels, and target {names} has none")

    def encoded(self, preprocessing: Preprocessing, frame: pl.DataFrame, where: str, rows: RowNumbers) -> Rows:
        """Features and target of some rows in float64, and their weights as given."""
        weight, target = self.weights(frame, where, rows), preprocessing.target(frame, where, rows)
        features = preprocessing.features(frame, where, rows)
        return Rows(features, target, features.new_ones(len(features)) if weight is None else weight)

    def weights(self, frame: pl.DataFrame, where: str, rows: RowNumbers | None) -> Tensor | None:
        """The weights of some rows as given, (n,) float64; None where all are 1."""
        column = self.columns.weights
        return None if column is None else sample_weights(frame[column], where, rows)


def _refuse_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    if value not in allowed:
        shown = enumerate_names("none" if choice is None else choice for choice in allowed)
        raise DataError(f"{name} must be one of {shown}, not {value!r}")
