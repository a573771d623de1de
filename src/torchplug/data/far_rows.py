"""Notes on rows so far from the others that a model's figures are about them alone: targets, and validated features."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from torchplug.data.prepared import Split
from torchplug.preprocessing import Preprocessing
from torchplug.preprocessing.target import TargetCoding
from torchplug.tables import enumerate_names, shown

_FAR_TARGET = 100.0
"""Standard deviation over interquartile range, beyond which the middle half has less than 0.01 % of the variance."""
_LONE_TARGET = 100.0
"""What a row adds to the mean squared error by itself, in variances of the training target."""
_FAR_FEATURE = 1000.0
"""Standard deviations of the training split from its mean; a row that trains cannot be farther than √n."""
_FEW = 6
_REMEDY = "correct it, if it is wrong"


def far_training_targets(split: Split, coding: TargetCoding) -> list[str]:
    """A note on target columns whose other values hardly count beside the farthest one.

    Args:
        split: the training rows; of streamed ones the first block gives the quartiles.
        coding: of their target.
    """
    found = [
        f"{name} ({value:.6g} in row {row})"
        for name, value, row, spread, quartiles in _columns(split, coding)
        if quartiles > 0.0 and spread > _FAR_TARGET * quartiles
    ]
    if not found:
        return []
    names = enumerate_names(found, _FEW)
    return [
        f"target so far from all others that these hardly count beside it: {names}; {_REMEDY}, or leave out that row"
    ]


def far_validation_targets(split: Split, training: Split, coding: TargetCoding) -> list[str]:
    """A note on target columns of which one validation row decides `val/loss`.

    Args:
        split: the validation rows.
        training: the training rows.
        coding: of their target.
    """
    scale = training.target_scale(coding)
    if scale is None or not split.samples:
        return []
    means, spreads = (part.tolist() for part in scale)
    found = [
        f"{name} ({value:.6g} in row {row})"
        for (name, value, row, *_), mean, spread in zip(_columns(split, coding), means, spreads, strict=True)
        if abs(value - mean) > spread * (_LONE_TARGET * split.samples) ** 0.5
    ]
    if not found:
        return []
    names = enumerate_names(found, _FEW)
    return [
        f"validation target so far from the training split's that val/loss is about it alone: {names}; {_REMEDY}, or "
        "leave out that row"
    ]


def far_validation_features(
    split: Split, blocks: Iterable[Tensor], preprocessing: Preprocessing, samples: int
) -> list[str]:
    """A note on standardized features that are far outside of the training split's range in validation rows.

    Args:
        split: the validation rows.
        blocks: their features (m, d), standardized by the training rows, some rows at a time.
        preprocessing: which encoded them.
        samples: how many rows train.
    """
    count, first = len(preprocessing.feature_names), 0
    farthest, place = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.long)
    for features in blocks:
        if len(features):
            sizes, places = features.abs().max(dim=0)
            place = torch.where(sizes > farthest, first + places, place)
            farthest = torch.maximum(sizes.double(), farthest)
        first += len(features)
    (beyond,) = torch.nonzero(farthest > max(_FAR_FEATURE, float(samples) ** 0.5), as_tuple=True)
    if not len(beyond):
        return []
    rows = np.concatenate(list(split.row_numbers()))
    named = [f"{preprocessing.feature_names[j]} (row {rows[int(place[j])] + 1})" for j in beyond.tolist()]
    return [
        "validation rows so far outside of the training split that predictions are extrapolated: "
        f"{enumerate_names(named, _FEW)}; {_REMEDY}, or clip with --data.scale robust"
    ]


def _columns(split: Split, coding: TargetCoding) -> Iterator[tuple[str, float, int, float, float]]:
    """Of each numeric target column: name, farthest value, its row from 1, spread, and interquartile range."""
    scale = split.target_scale(coding)
    if scale is None or not split.samples:
        return
    values = coding.original_units(next(iter(split.targets()))).double().numpy()
    rows = next(iter(split.row_numbers()))
    for name, column, spread in zip(coding.info.columns, values.T, scale[1].tolist(), strict=True):
        low, middle, high = np.quantile(column, [0.25, 0.5, 0.75])
        place = int(np.argmax(np.abs(column - middle)))
        yield shown(name), float(column[place]), int(rows[place]) + 1, spread, float(high - low)
