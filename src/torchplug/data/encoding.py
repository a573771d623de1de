"""Encoding of blocks of a file for the network and the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from torchplug.batch import Rows
from torchplug.data.parquet import file_block_rows
from torchplug.data.selection import FileBlock, Selection, refuse_no_row
from torchplug.data.settings import TableSettings
from torchplug.data.splitting import balanced_factors
from torchplug.preprocessing import Preprocessing, Substitutions
from torchplug.preprocessing.blocks import intervals
from torchplug.preprocessing.moments import Moments, RunningMoments

_AS_GIVEN = torch.ones(1, dtype=torch.float64)


class Encoder(Protocol):
    """Turns blocks of a file into tensors.

    Attributes:
        size: rows of the file in a block.
        columns: what must be read.
        target_columns: what the target alone is made from.
        feature_names: the features it makes.
    """

    size: int
    columns: Sequence[str]
    feature_names: tuple[str, ...]
    target_columns: Sequence[str]

    def rows(self, block: FileBlock) -> Rows:
        """Features, target and weight."""
        ...

    def target(self, block: FileBlock) -> Tensor:
        """The target alone."""
        ...


class FeatureEncoder:
    """Features alone, for prediction.

    Args:
        preprocessing: fitted.
        available: the file's columns.
    """

    target_columns: Sequence[str] = ()

    def __init__(self, preprocessing: Preprocessing, available: Sequence[str]) -> None:
        self._preprocessing = preprocessing
        self.columns = preprocessing.reads(available)
        self.feature_names = tuple(preprocessing.feature_names)
        self.size = file_block_rows(len(self.feature_names))

    def rows(self, block: FileBlock) -> Rows:
        """Features, a target without columns, and weights of 1."""
        features = self._preprocessing.features(block.frame, block.where, block.rows)
        return Rows(features, features[:, :0], features.new_ones(len(features)))

    def target(self, block: FileBlock) -> Tensor:
        """A target without columns."""
        return self.rows(block).target


class RowEncoder:
    """Features, target and weight.

    Args:
        settings: the user's choices.
        preprocessing: fitted.
        columns: what must be read.
        factors: (c,) what weights are multiplied by, for each of the c classes, or (1,) for all rows.
    """

    def __init__(
        self,
        settings: TableSettings,
        preprocessing: Preprocessing,
        columns: Sequence[str],
        factors: Tensor = _AS_GIVEN,
    ) -> None:
        self._settings = settings
        self.preprocessing = preprocessing
        self._factors = factors
        self.columns = columns
        self.target_columns: Sequence[str] = preprocessing.info.columns
        self.feature_names = tuple(preprocessing.feature_names)
        self.size = file_block_rows(len(self.feature_names) + len(self.target_columns))

    def rows(self, block: FileBlock) -> Rows:
        """Features, target and weight."""
        rows = self._settings.encoded(self.preprocessing, block.frame, block.where, block.rows)
        classes = rows.target.reshape(-1).long() if len(self._factors) > 1 else 0
        return Rows(rows.features, rows.target, rows.weight * self._factors[classes])

    def target(self, block: FileBlock) -> Tensor:
        """The target alone."""
        return self.preprocessing.target(block.frame, block.where, block.rows)

    def goal(self, block: FileBlock, substitutions: Sequence[Substitutions]) -> tuple[Tensor, Tensor]:
        """Target and weight; features are checked, and what is filled in or unknown is counted."""
        weight, target = self._settings.weights(block.frame, block.where, block.rows), self.target(block)
        self.preprocessing.refuse(block.frame, block.where, block.rows, substitutions)
        return target, torch.ones(len(target), dtype=torch.float64) if weight is None else weight


class Survey:
    """Row counts per block and weights of a split, needed before its rows are read.

    Args:
        preprocessing: fitted.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self.blocks: list[int] = []
        info = preprocessing.info
        self._labelled = preprocessing.target_coding.labels
        self._numeric = not preprocessing.target_coding.task.has_classes
        self._weights: list[float] = []
        self._class_rows = torch.zeros(len(info.classes or ()), dtype=torch.float64)
        self._class_weights = torch.zeros_like(self._class_rows)
        self._moments = RunningMoments()

    def add(self, target: Tensor, weight: Tensor, blocks: Sequence[int]) -> None:
        """Add the split's rows of the next blocks, each of which has this many."""
        self.blocks += blocks
        self._weights.append(float(weight.sum()))
        if self._labelled:
            classes = target.reshape(-1).long()
            self._class_rows += torch.bincount(classes, minlength=len(self._class_rows))
            self._class_weights += torch.bincount(classes, weight, minlength=len(self._class_rows))
        if self._numeric:
            self._moments.add(Moments.of(list(target.numpy().T)))

    @property
    def moments(self) -> Moments | None:
        """Of a numeric target as the loss sees it."""
        return self._moments.total() if self._numeric else None

    def factors(self, balanced: bool) -> Tensor:
        """What brings the weights to mean 1, and classes to the same weight if that is asked for."""
        rows = sum(self.blocks)
        if not rows:
            return _AS_GIVEN
        mean = math.fsum(self._weights) / rows
        if not balanced or not self._labelled:
            return torch.tensor([1.0 / mean], dtype=torch.float64)
        # scaled before too, so that the product's size does not depend on the unit of the weights
        factors = balanced_factors(self._class_rows) / mean
        return factors / ((factors * self._class_weights).sum() / rows)


@dataclass
class FileSurvey:
    """The result of a pass over all rows of a file.

    Args:
        splits: one survey for each split to which its rows may belong.
        without_target: number of rows without target, which are left out.
        substitutions: imputed values and unknown categories of each of these splits.
    """

    splits: list[Survey]
    substitutions: list[Substitutions]
    without_target: int = 0


def survey(selection: Selection, encoder: RowEncoder, splits: Sequence[int]) -> FileSurvey:
    """Make one pass over all rows of a file, as they will be read.

    Args:
        selection: the file's rows.
        encoder: leaves weights unchanged.
        splits: the splits to which they may belong, as indices into `SPLITS`.

    Raises:
        DataError: for a row that cannot be encoded, or if no row is left.
    """
    found = FileSurvey([Survey(encoder.preprocessing) for _ in splits], [Substitutions() for _ in splits])
    # several blocks at once: many features make blocks small, and here no features are made
    at_once = encoder.size * max(1, file_block_rows(len(encoder.columns)) // encoder.size)
    starts = intervals(selection.table.height, at_once)
    for (start, stop), block in zip(starts, selection.blocks(at_once, encoder.columns), strict=True):
        found.without_target += block.without_target
        counts = [own.among(block.splits == split) for own, split in zip(found.substitutions, splits, strict=True)]
        goal = encoder.goal(block, counts)
        position, count = (block.rows - start) // encoder.size, -(-(stop - start) // encoder.size)
        for split, surveyed in zip(splits, found.splits, strict=True):
            mask = block.splits == split
            blocks = np.bincount(position[mask], minlength=count).tolist()
            target, weight = (torch.from_numpy(values.numpy()[mask]) for values in goal)
            surveyed.add(target, weight, blocks)
    if not any(sum(surveyed.blocks) for surveyed in found.splits):
        refuse_no_row(selection, found.without_target)
    return found
