"""What is common to tables in memory and tables that are streamed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchplug.batch import Rows
from torchplug.data.loaders import Batches
from torchplug.preprocessing import DataRequirements, Preprocessing
from torchplug.preprocessing.target import TargetCoding


class Split(ABC):
    """The rows of one split, encoded; a `TrainingSet`, so a full-batch optimizer's loader can yield it.

    Attributes:
        samples: n, how many rows.
        feature_names: the names of the d encoded features, for messages.
    """

    samples: int
    feature_names: tuple[str, ...]

    @property
    @abstractmethod
    def frame(self) -> pl.DataFrame:
        """The rows as they were read."""

    @abstractmethod
    def row_numbers(self) -> Iterator[NDArray[np.int64]]:
        """Where the rows stand in their table, counted from 0, in order, perhaps a block at a time."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Rows:
        """Rows `start` to `stop`: features (n, d) and weights (n,) in float64, the target as the loss expects it,
        (n, k) float64 or (n,) int64.
        """

    @abstractmethod
    def sampled_features(self, count: int, dtype: torch.dtype) -> Tensor:
        """Features (m, d) of about `count` rows that are spread evenly over the split, or of all if it has no more."""

    @abstractmethod
    def targets(self) -> Iterator[Tensor]:
        """The target, perhaps a block at a time."""

    @abstractmethod
    def target_scale(self, coding: TargetCoding) -> tuple[Tensor, Tensor] | None:
        """Mean and population standard deviation, (k,) each, of a numeric target in its own units."""

    @abstractmethod
    def loader(self, dtype: torch.dtype, **options: Any) -> Batches:
        """Batches of the split in this precision.

        Args:
            dtype: of features, weights and targets that are no class indices.
            options: what `Batches` takes.
        """


@dataclass(frozen=True)
class Prepared:
    """Tables that are read, divided and encoded.

    Args:
        preprocessing: fitted on the training split, or carried from a checkpoint.
        splits: train, validation and test.
        notes: what the user should know and did not ask; nothing in them depends on values of the test split.
        test_notes: the same of the test split.
    """

    preprocessing: Preprocessing
    splits: Mapping[str, Split]
    notes: list[str]
    test_notes: list[str]


class Tables(Protocol):
    """The user's tables, in memory or streamed."""

    def fingerprints(self) -> dict[str, str]:
        """A hash of each table's content, as hexadecimal text, by what the table is for."""
        ...

    @property
    def heights(self) -> dict[str, int]:
        """How many rows each table has, those included that are not used."""
        ...

    def targets(self) -> Iterator[pl.DataFrame]:
        """The source's target columns as they were read, perhaps a block of rows at a time."""
        ...

    def prepare(self, request: DataRequirements, dtype: torch.dtype) -> Prepared:
        """Read, divide, fit and encode.

        Args:
            request: what the module asks for.
            dtype: what features are wanted in; any other is possible, at the cost of encoding again.

        Raises:
            DataError: if the data cannot be used, in one line that names column, row and remedy.
        """
        ...

    def prediction(self, preprocessing: Preprocessing, dtype: torch.dtype) -> Split:
        """All rows of the source, with their features alone, wanted in this precision."""
        ...
