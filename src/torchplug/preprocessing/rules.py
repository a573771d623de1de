"""Settings of how columns become features: missing values, unknown categories, many categories, scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torchplug.preprocessing.dates import Dates

Impute = Literal["auto", "mean", "median", "most_frequent", "drop", "error"]
"""Treatment of missing feature values."""

HandleUnknown = Literal["pool", "error", "ignore"]
"""Treatment of categories that are absent from the training split."""

Scale = Literal["standard", "robust", "quantile", "none"]
"""How features are scaled."""

BY_RANK: tuple[Scale, ...] = ("robust", "quantile")
"""The scalings that need all values of a column at once."""

MOST_CATEGORIES = 2**16
"""How many categories of a column that share a feature are listed in a checkpoint at most."""


@dataclass(frozen=True)
class EncodingRules:
    """Settings of how columns become features.

    Args:
        impute: auto imputes the median, or the most frequent category, and flags missing values by a 0/1 feature;
            mean, median and most_frequent impute numbers as named and categories by the most frequent one, without
            flags; drop expects rows without missing values, and imputes later ones as auto does; error refuses them.
        handle_unknown: pool gives categories that occur once, and unknown ones, one shared feature; ignore gives
            unknown ones no feature; error refuses them.
        max_categories: maximum number of features per categorical column, at least 2, including the shared one of the
            rarest categories; None: no bound.
        reference: whether the first level of each categorical column gets no feature.
        dates: number makes dates one feature each, the time since the first; cyclic two for each of year, week and day.
        streamed: whether rows are read in pieces, in which case auto imputes the mean instead of the median.
        scale: how features are scaled, as `Scaling` defines it.
    """

    impute: Impute = "auto"
    handle_unknown: HandleUnknown = "pool"
    max_categories: int | None = 100
    reference: bool = False
    dates: Dates = "number"
    streamed: bool = False
    scale: Scale = "standard"

    @property
    def fills(self) -> bool:
        """Whether missing values are imputed."""
        return self.impute != "error"

    @property
    def number_fill(self) -> Literal["mean", "median", "most_frequent"]:
        """The statistic that replaces missing numbers."""
        if self.impute in ("mean", "median", "most_frequent"):
            return self.impute
        return "mean" if self.streamed else "median"

    @property
    def indicates(self) -> bool:
        """Whether columns with missing values in the training split get an indicator feature."""
        return self.impute == "auto"

    @property
    def pools_unknown(self) -> bool:
        """Whether unknown and pooled categories share a feature, so that they need not be distinguished."""
        return self.handle_unknown == "pool" and self.max_categories is not None

    def pooled(self, counts: Mapping[str, int], others: int = 0) -> set[str]:
        """The categories that share a feature.

        Args:
            counts: category → rows of the training split.
            others: rows of further categories, which are pooled too.

        Note: scikit-learn's OneHotEncoder (`min_frequency=2`) pools one of exactly `max_categories` categories, too.
        """
        pooled = {level for level, count in counts.items() if count == 1} if self.handle_unknown == "pool" else set()
        most = self.max_categories
        if most is not None and len(counts) - len(pooled) + bool(pooled or others) > most:
            # of equally rare ones the first in order are pooled, as scikit-learn does
            rarest = sorted(sorted(counts), key=lambda level: counts[level])
            pooled.update(rarest[: len(rarest) - (most - 1)])
        return pooled
