"""The choices by which columns become features: missing values, unknown categories, many categories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torchplug.preprocessing.dates import Dates

Impute = Literal["auto", "mean", "median", "most_frequent", "drop", "error"]
"""How missing values of features are dealt with."""

HandleUnknown = Literal["pool", "error", "ignore"]
"""How categories that the training part lacks are dealt with."""

MOST_CATEGORIES = 2**16
"""How many categories of a column that share a feature are listed in a checkpoint at most."""


@dataclass(frozen=True)
class EncodingRules:
    """How columns become features.

    Args:
        impute: auto fills in the median, or the most frequent category, and marks missing values by a 0/1 feature;
            mean, median and most_frequent fill in numbers so, categories always by the most frequent one, and mark
            nothing; drop expects rows without missing values, and fills in later ones as auto does; error refuses them.
        handle_unknown: pool lets categories that occur once share a feature, which unknown ones join; ignore gives
            unknown ones no feature; error refuses them.
        max_categories: the most features of a categorical column, at least 2, the shared one among them: the rarest
            categories share it; None: no bound.
        reference: whether the first level of each categorical column gets no feature.
        dates: number makes dates one feature each, the time since the first; cyclic two for each of year, week and day.
        streamed: whether rows are read a piece at a time, where the mean takes the place of auto's median.
    """

    impute: Impute = "auto"
    handle_unknown: HandleUnknown = "pool"
    max_categories: int | None = 100
    reference: bool = False
    dates: Dates = "number"
    streamed: bool = False

    @property
    def fills(self) -> bool:
        """Whether missing values are filled in."""
        return self.impute != "error"

    @property
    def number_fill(self) -> Literal["mean", "median", "most_frequent"]:
        """What stands in for a missing number."""
        if self.impute in ("mean", "median", "most_frequent"):
            return self.impute
        return "mean" if self.streamed else "median"

    @property
    def indicates(self) -> bool:
        """Whether columns that have missing values in the training part get a feature that marks them."""
        return self.impute == "auto"

    @property
    def pools_unknown(self) -> bool:
        """Whether unknown categories share a feature with the pooled ones, so that these need not be told from them."""
        return self.handle_unknown == "pool" and self.max_categories is not None

    def pooled(self, counts: Mapping[str, int], others: int = 0) -> set[str]:
        """The categories that share a feature.

        Args:
            counts: category → rows of the training part.
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
