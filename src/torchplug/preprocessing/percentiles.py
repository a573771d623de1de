"""Percentiles of the features of a column in the training split, for scalings by rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from torchplug.preprocessing.columns import Array
from torchplug.preprocessing.rules import Scale

NO_PERCENTILES: Array = np.empty((0, 0))
"""Of a column none of whose features is scaled by rank."""

_QUARTILES = np.array([25.0, 50.0, 75.0])
_MOST = 1000


def percentiles_of_numbers(scale: Scale, features: Array) -> Array:
    """Return the percentiles (m, p) of a column's features (n, m): the quartiles or, of the one feature that `quantile`
    maps, min(1000, n) evenly spaced from 0 to 100.

    Values between two ranks are interpolated linearly, as `numpy.percentile` does. A feature of at most two values has
    no quantiles: they would be the bounds of the map.
    """
    # halves: no difference leaves float64's range
    halves = [values * 0.5 for values in features.T]
    if scale == "robust":
        return 2.0 * np.stack([np.percentile(values, _QUARTILES, overwrite_input=True) for values in halves])
    ordered = np.sort(halves[0])
    has_third = np.searchsorted(ordered, ordered[0], side="right") < np.searchsorted(ordered, ordered[-1], side="left")
    return 2.0 * _evenly_spaced(ordered)[None] if has_third else NO_PERCENTILES


def _evenly_spaced(ordered: Array) -> Array:
    """The percentiles of sorted values (n,), bit for bit those of `numpy.percentile`, whose time grows with p."""
    percents = np.linspace(0.0, 1.0, min(_MOST, len(ordered))) * 100.0
    place = (len(ordered) - 1) * (percents / 100.0)  # among equal values the last digit of the percents counts
    below = np.floor(place).astype(np.int64)
    low, high = ordered[below], ordered[np.minimum(below + 1, len(ordered) - 1)]
    share, step = place - below, high - low
    found: Array = np.where(share < 0.5, low + step * share, high - step * (1.0 - share))
    return found


def percentiles_of_indicators(scale: Scale, ones: Sequence[int] | NDArray[np.int64], rows: int) -> Array:
    """Return the percentiles (m, p) of 0/1 features where these are scaled by rank: the quartiles, for `robust`.

    Args:
        scale: how features are scaled.
        ones: rows in which each of the m features is 1.
        rows: n.
    """
    if scale != "robust" or not len(ones):
        return NO_PERCENTILES
    place, zeros = (rows - 1) * _QUARTILES / 100.0, rows - np.asarray(ones)[:, None]
    below = np.floor(place)
    found: Array = np.where(below >= zeros, 1.0, np.where(below + 1.0 >= zeros, place - below, 0.0))
    return found


def joined(parts: Sequence[Array]) -> Array:
    """Return the percentiles of several features, of which some may have none."""
    some = [part for part in parts if len(part)]
    return np.concatenate(some) if some else NO_PERCENTILES
