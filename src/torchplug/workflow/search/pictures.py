"""Pictures of a search: importances, parallel coordinates, and a slice along each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from torchplug.registry.component import Direction
from torchplug.workflow import pictures
from torchplug.workflow.search.ranges import Range
from torchplug.workflow.search.space import Dimension
from torchplug.workflow.search.study import Finished

_COLUMNS = 3
_MOST_TICKS = 12
_LONGEST = 18


@dataclass(frozen=True)
class _Axis:
    """Where a setting's values stand on an axis.

    Args:
        places: of each trial; NaN where it does not have the setting.
        ticks: where labels stand; None: those of numbers.
        labels: theirs.
        log: whether the axis is logarithmic.
    """

    places: np.ndarray[Any, Any]
    ticks: Sequence[float] | None
    labels: Sequence[str] | None
    log: bool

    @classmethod
    def of(cls, dimension: Dimension, trials: Sequence[Finished]) -> _Axis:
        """The axis of a setting: numbers for ranges, and values beside each other for lists."""
        values = [own.values.get(dimension.name) for own in trials]
        if isinstance(dimension.values, Range):
            places = np.array([np.nan if value is None else value for value in values], dtype=float)
            return cls(places, None, None, dimension.values.kind == "log")
        texts = list(dimension.values.values)
        has = [dimension.name in own.values for own in trials]
        found = [
            texts.index(dimension.values.stored(value)) if there else np.nan
            for value, there in zip(values, has, strict=True)
        ]
        return cls(np.array(found, dtype=float), range(len(texts)), [_short(text) for text in texts], False)

    def scaled(self) -> np.ndarray[Any, Any]:
        """The places from 0 to 1; trials without the setting stand below."""
        places = np.log(self.places) if self.log else self.places
        low, high = (0, len(self.ticks) - 1) if self.ticks is not None else (np.nanmin(places), np.nanmax(places))
        share = (places - low) / (high - low) if high > low else np.where(np.isnan(places), np.nan, 0.5)
        return np.where(np.isnan(share), -0.15, share)

    def end_labels(self) -> list[tuple[float, str]]:
        """Labels on a scale from 0 to 1."""
        if self.ticks is not None and self.labels is not None:
            last = max(1, len(self.ticks) - 1)
            at = [tick / last if len(self.ticks) > 1 else 0.5 for tick in self.ticks]
            chosen = list(zip(at, self.labels, strict=True))
            return chosen if len(chosen) <= _MOST_TICKS else [chosen[0], chosen[-1]]
        low, high = np.nanmin(self.places), np.nanmax(self.places)
        return [(0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")] if high > low else [(0.5, f"{low:.3g}")]


def draw_importances(importances: Mapping[str, float], path: Path) -> None:
    """Write a bar for each setting's importance.

    Raises:
        WriteError: if it cannot be written.
    """
    ordered = sorted(importances.items(), key=lambda item: item[1])
    figure, (axis,) = pictures.panels(1, width=6.5, height=1.2 + 0.35 * len(ordered))
    axis.barh([name for name, _ in ordered], [share for _, share in ordered], height=0.6)
    axis.set_xlabel("importance (PED-ANOVA)")
    axis.grid(visible=False, axis="y")
    axis.set_xlim(0, max(0.01, *(share for _, share in ordered)) * 1.05)
    pictures.save(figure, path)


def draw_slices(
    trials: Sequence[Finished], best: Finished, dimensions: Sequence[Dimension], metric: str, path: Path
) -> None:
    """Write a panel for each setting: the metric of all trials along it, in the order in which they were tried.

    Raises:
        WriteError: if it cannot be written.
    """
    columns = min(_COLUMNS, len(dimensions))
    rows = -(-len(dimensions) // columns)
    figure, axes = pictures.panels(columns, rows, width=4.2, height=3.4)
    values = np.array([own.result.value for own in trials], dtype=float)
    numbers = [own.number for own in trials]
    shown: Any = None
    for axis, dimension in zip(axes, dimensions, strict=False):
        own = _Axis.of(dimension, trials)
        shown = axis.scatter(own.places, values, c=numbers, cmap="viridis", s=18, linewidths=0)
        place = own.places[next(i for i, trial in enumerate(trials) if trial is best)]
        axis.scatter([place], [best.result.value], marker="*", s=130, color="crimson", zorder=3, label="best")
        if own.log:
            axis.set_xscale("log")
        if own.ticks is not None and own.labels is not None:
            few = len(own.ticks) <= _MOST_TICKS
            axis.set_xticks(
                list(own.ticks) if few else [own.ticks[0], own.ticks[-1]],
                list(own.labels) if few else [own.labels[0], own.labels[-1]],
                rotation=30 if max(map(len, own.labels)) > 5 else 0,
                ha="right" if max(map(len, own.labels)) > 5 else "center",
            )
            axis.set_xlim(-0.5, len(own.ticks) - 0.5)
        _scale_values(axis, values)
        axis.set_xlabel(dimension.name)
    for axis in axes[len(dimensions) :]:
        axis.set_visible(False)
    for axis in axes[::columns]:
        axis.set_ylabel(metric)
    axes[0].legend(frameon=False, fontsize="small")
    figure.colorbar(shown, ax=axes, label="trial", shrink=0.8)
    pictures.save(figure, path)


def draw_coordinates(
    trials: Sequence[Finished], dimensions: Sequence[Dimension], metric: str, direction: Direction, path: Path
) -> None:
    """Write a line for each trial through its settings and its metric, the best on top.

    Raises:
        WriteError: if it cannot be written.
    """
    names = [*(dimension.name for dimension in dimensions), metric]
    figure, (axis,) = pictures.panels(1, width=max(6.0, 2.0 * len(names)), height=4.2)
    values = np.array([own.result.value for own in trials], dtype=float)
    ranks = np.argsort(np.argsort(values if direction == "min" else -values)) / max(1, len(values) - 1)
    axes = [_Axis.of(dimension, trials) for dimension in dimensions]
    axes.append(_Axis(values, None, None, _spans_decades(values)))
    lines = np.stack([own.scaled() for own in axes])
    from matplotlib import colormaps

    for trial in np.argsort(-ranks):
        colour = colormaps["viridis"](ranks[trial])
        axis.plot(lines[:, trial], color=colour, linewidth=0.8 + 1.6 * (1 - ranks[trial]), alpha=0.75)
    for place, own in enumerate(axes):
        axis.axvline(place, color="black", linewidth=0.8)
        for height, label in own.end_labels():
            _label(axis, place, height, label)
        if (lines[place] < 0).any():
            _label(axis, place, -0.15, "not set")
    axis.set_xticks(range(len(names)), names, rotation=15, ha="right")
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[["left", "bottom"]].set_visible(False)
    axis.set_title("dark: better trials", fontsize="small")
    pictures.save(figure, path)


def _label(axis: Any, place: float, height: float, text: str) -> None:
    """Write beside an axis, over the lines."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    at: dict[str, Any] = {"xytext": (5, 0), "textcoords": "offset points", "fontsize": 7, "va": "center"}
    axis.annotate(text, (place, height), bbox=box, zorder=4, **at)


def _scale_values(axis: Any, values: np.ndarray[Any, Any]) -> None:
    """A logarithmic axis where values span decades, so that bad trials do not flatten the good ones."""
    if _spans_decades(values):
        axis.set_yscale("log")


def _spans_decades(values: np.ndarray[Any, Any]) -> bool:
    return bool(values.min() > 0 and values.max() > 30 * values.min())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
