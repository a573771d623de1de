"""Scaling of features: by mean and deviation, by quartiles with a smooth clip, or to normal quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from torchplug.preprocessing.columns import Array
from torchplug.preprocessing.moments import Moments
from torchplug.preprocessing.percentiles import NO_PERCENTILES, joined
from torchplug.preprocessing.rules import BY_RANK, Scale

_BOUND = 3.0
_BEYOND = 1e10
"""So many interquartile ranges off, the clip is at its bound in float64, and squares are finite."""
_LEAST = 1e-7 - np.spacing(1.0)
"""The smallest share of rows that is told from none, scikit-learn's: Φ⁻¹ of it is −5.2."""
_TENSORS = ("center", "scale", "zero_variance", "mapped", "quantiles")


@dataclass(frozen=True, eq=False)
class Scaling:
    r"""Maps features from the columns' units to what the network sees.

        standard, none    z = (x − m) / s
        robust            z = c((x − m) / s),    c(u) = u / √(1 + (u/3)²)
        quantile          z = Φ⁻¹(F(x)) for numbers of at least three values, (x − m) / s for all other features

    standard: m the mean, s the population standard deviation. none: m = 0, s = 1. robust: m the median, s the
    interquartile range or, where it is 0, half the range. quantile: F interpolates linearly between min(1000, n)
    quantiles of the n training rows, evenly spaced from 0 to 1; at a number that is several of them, it is the mean of
    the lowest and the highest level; Φ⁻¹ is bounded by ±5.2. 0/1 features, cycles and numbers of two values are
    standardized by it, since the bounds would be all that they are mapped to, or a sine and its cosine leave their
    circle. A feature that is constant in the training rows, or zero where nothing is shifted, is 0 in all rows: its
    weight is untrained and must not affect predictions.

    Args:
        method: the user's choice.
        center: (d,) float64, m in the columns' units; zeros where nothing is shifted.
        scale: (d,) float64, s in the columns' units; 1 for constant features.
        zero_variance: (d,) bool, the features that are 0 in all rows.
        mapped: (m,) int64, the features that are mapped to quantiles, ascending.
        quantiles: (m, q) float64, their quantiles in the columns' units.

    Reference: robust is the preprocessing of Holzmüller et al. (2024), arXiv:2407.04491.
    Note: scikit-learn's RobustScaler does not clip, and divides by 1 where the interquartile range is 0. Its
        QuantileTransformer maps constant columns to −5.2 and those of two values to ±5.2, and takes what is within
        1e-7 of a column's extremes, in the column's units, for these, which makes columns of small numbers constant.
    """

    method: Scale
    center: Tensor
    scale: Tensor
    zero_variance: Tensor
    mapped: Tensor
    quantiles: Tensor

    @classmethod
    def of(
        cls, method: Scale, columns: Sequence[Moments], percentiles: Sequence[Array], *, center: bool = True
    ) -> Scaling:
        """Return the scaling by statistics of the training split.

        Args:
            method: the user's choice.
            columns: the moments of each column's features.
            percentiles: of the first features of each column, as the method needs them.
            center: whether features are shifted.
        """
        moments = Moments.joined(columns)
        mean, spread = _location_and_spread(method, moments, joined(percentiles))
        if not center:
            mean = np.zeros_like(mean)
        zero_variance = moments.all_equal(mean)
        mapped, quantiles = _mapped(columns, percentiles if method == "quantile" else [])
        mean[mapped], spread[mapped] = 0.0, 1.0
        return cls(method, *map(torch.from_numpy, (mean, spread, zero_variance, mapped, quantiles)))

    @property
    def features(self) -> int:
        """The number d of features."""
        return len(self.center)

    @property
    def bounds(self) -> bool:
        """Whether numbers are bounded, so that outliers leave the others apart."""
        return self.method in BY_RANK

    def apply(self, features: Array) -> None:
        """Scale features (n, d) in place."""
        with np.errstate(over="ignore" if self.bounds else "warn"):
            np.subtract(features, self.center.numpy(), out=features)
            np.divide(features, self.scale.numpy(), out=features)
        if self.method == "robust":
            _clip(features)
        for feature, quantiles in zip(self.mapped.tolist(), self.quantiles.numpy(), strict=True):
            features[:, feature] = _normal_scores(features[:, feature], quantiles)
        if self.zero_variance.any():
            features[:, self.zero_variance.numpy()] = 0.0

    @property
    def affine_part(self) -> tuple[Tensor, Tensor]:
        """Returns m and s, (d,) each, of z = (x − m)/s; 0 and 1 for a feature of which z is another function of x."""
        if self.method == "robust":
            return torch.zeros_like(self.center), torch.ones_like(self.scale)
        return self.center, self.scale

    def coefficient_names(self, features: Sequence[str]) -> list[str]:
        """What a linear model's coefficients belong to: x, or where z is no affine function of it, `robust(x)`."""
        own = set(range(self.features) if self.method == "robust" else self.mapped.tolist())
        return [f"{self.method}({name})" if feature in own else name for feature, name in enumerate(features)]

    def state(self) -> dict[str, Any]:
        """Return the scaling as plain data and tensors."""
        return {"method": self.method, **{name: getattr(self, name).clone() for name in _TENSORS}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Scaling:
        """Return the scaling that `state` describes."""
        return cls(state["method"], *(state[name].cpu() for name in _TENSORS))

    def fits(self, features: int) -> bool:
        """Whether it consists of finite numbers that scale so many features."""
        vectors = (self.center, self.scale, self.zero_variance)
        mapped, quantiles = self.mapped, self.quantiles
        return (
            self.method in get_args(Scale)
            and all(vector.shape == (features,) and bool(vector.isfinite().all()) for vector in vectors)
            and mapped.dtype == torch.int64
            and mapped.tolist() == sorted({place for place in mapped.tolist() if 0 <= place < features})
            and quantiles.ndim == 2
            and len(quantiles) == len(mapped)
            and bool(quantiles.isfinite().all() and (quantiles.diff() >= 0).all())
            and (not len(mapped) or (self.method == "quantile" and quantiles.shape[1] > 0))
        )


def _location_and_spread(method: Scale, moments: Moments, quartiles: Array) -> tuple[Array, Array]:
    """Location and scale (d,) each; 1 for the scale of constant features."""
    if method == "none":
        return np.zeros_like(moments.mean), np.ones_like(moments.mean)
    return _of_quartiles(moments, *quartiles.T) if method == "robust" else moments.mean_and_spread()


def _of_quartiles(moments: Moments, low: Array, median: Array, high: Array) -> tuple[Array, Array]:
    """Median and interquartile range, or half the range; a constant feature's value and 1."""
    constant, limits = moments.low == moments.high, np.finfo(np.float64)
    # halves: no difference leaves float64's range
    half, half_range = high / 2.0 - low / 2.0, moments.high / 2.0 - moments.low / 2.0
    spread = np.where(half > 0, 2.0 * np.minimum(half, limits.max / 2.0), half_range)
    # not 0 for the smallest numbers, half of which is 0
    return np.where(constant, moments.low, median), np.where(constant, 1.0, np.maximum(spread, limits.tiny))


def _mapped(columns: Sequence[Moments], percentiles: Sequence[Array]) -> tuple[Any, Array]:
    """The features (m,) that are mapped to quantiles, and these (m, q)."""
    starts = np.cumsum([0, *(len(own.count) for own in columns)]).tolist()
    found = [
        (place, values)
        for start, own in zip(starts, percentiles, strict=False)
        for place, values in enumerate(own, start)
    ]
    # numpy's interpolation may decrease in the last digit
    quantiles = np.maximum.accumulate([values for _, values in found], axis=1) if found else NO_PERCENTILES
    return np.array([place for place, _ in found], dtype=np.int64), quantiles


def _clip(scaled: Array) -> None:
    """Bound numbers by the smooth clip, in place."""
    np.clip(scaled, -_BEYOND, _BEYOND, out=scaled)
    root = scaled / _BOUND
    np.square(root, out=root)
    root += 1.0
    scaled /= np.sqrt(root, out=root)


def _normal_scores(values: Array, quantiles: Array) -> Array:
    """Φ⁻¹(F(x)) of values (n,); F is 0 up to the first of the quantiles (q,), and 1 from the last one on."""
    levels = np.linspace(0.0, 1.0, len(quantiles))
    own, knots = values * 0.5, quantiles * 0.5  # halves: no difference leaves float64's range
    lowest = -np.interp(-own, -knots[::-1], -levels[::-1])
    share = 0.5 * (np.interp(own, knots, levels) + lowest)
    share[values >= quantiles[-1]] = 1.0
    share[values <= quantiles[0]] = 0.0
    scores: Array = torch.special.ndtri(torch.from_numpy(np.clip(share, _LEAST, 1.0 - _LEAST))).numpy()
    return scores
