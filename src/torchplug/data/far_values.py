"""Values that are so far from all others of their column that these cannot be told apart beside them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from torchplug.preprocessing.rows import Rows
from torchplug.tables import enumerate_names, shown

_FAR = 2.0**24
"""What float32 distinguishes: a value beyond so many interquartile ranges leaves no digit to those between."""

_SAMPLE = 1000
"""How many values the quartiles are of."""

_FEW = 6


class FarValues:
    """The first value of each column that lies farther than 2²⁴ interquartile ranges beyond its quartiles."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def look(self, columns: Iterable[pl.Series], rows: Rows | None = None) -> None:
        """Look for such values among some rows.

        Args:
            columns: of any type; those that are not numbers have none.
            rows: where they stand in the user's table, from 0; None: they are the whole of it.
        """
        for series in columns:
            if series.dtype.is_numeric() and series.name not in self._found:
                place = _far_value(series)
                if place is not None:
                    row = 1 + (place if rows is None else int(rows[place]))
                    self._found[series.name] = f"{shown(series.name)} ({series[place]:g} in row {row})"

    @property
    def notes(self) -> list[str]:
        """A note on the columns that have one."""
        if not self._found:
            return []
        names = enumerate_names([*self._found.values()], _FEW)
        return [f"so far from all other values that these hardly differ beside it: {names}; correct it, if it is wrong"]


def _far_value(series: pl.Series) -> int | None:
    values = series.cast(pl.Float64).to_numpy()
    present = np.isfinite(values)
    step = max(1, len(values) // _SAMPLE)
    if present.all() and len(values):
        sample, place_of_largest, place_of_least = values[::step], np.argmax, np.argmin
    elif not present.any():
        return None
    else:
        sample, place_of_largest, place_of_least = values[present][::step], np.nanargmax, np.nanargmin
        values = np.where(present, values, np.nan)
    places = [len(sample) // 4, len(sample) - 1 - len(sample) // 4]
    # halves: no difference leaves float64's range
    low, high = (float(quartile) / 2.0 for quartile in np.partition(sample, places)[places])
    largest, least = int(place_of_largest(values)), int(place_of_least(values))
    above, below = values[largest] / 2.0 - high, low - values[least] / 2.0
    if high <= low or max(above, below) <= _FAR * (high - low):
        return None
    return largest if above >= below else least
