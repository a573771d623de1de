"""`torchplug.compare`: how the settings and the metrics of several runs differ."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from torchplug.errors import ConfigurationError
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.run import Run
from torchplug.workflow import pictures

_LOSSES = ("train/epoch_loss", "val/loss")
_MOST_PANELS = 6


@dataclass(frozen=True)
class Comparison:
    """How runs differ.

    Args:
        runs: the runs.
        names: a short name for each.
        settings: a row for each setting that differs: its name, and its value in each run, as text; null where a run
            does not have it.
        metrics: a row for each metric: its name, and its last value in each run; null where a run does not have it.
    """

    runs: tuple[Run, ...]
    names: tuple[str, ...]
    settings: pl.DataFrame
    metrics: pl.DataFrame

    def draw(self, path: str | Path) -> Path:
        """Write a picture of the metrics by epoch, those of all runs in one panel.

        Args:
            path: of the PNG file.

        Returns:
            the path.

        Raises:
            ConfigurationError: if matplotlib is not installed, or no run has a metric yet.
            WriteError: if it cannot be written.
        """
        if not pictures.available():
            raise ConfigurationError(pictures.INSTALL)
        curves = [_curves(run) for run in self.runs]
        drawn = {name for curve in curves for name, (epochs, _) in curve.items() if epochs}
        shown = [name for name in self.metrics["metric"] if name.startswith("val/") or name in _LOSSES]
        shown = [name for name in shown if name in drawn][:_MOST_PANELS]
        if not shown:
            raise ConfigurationError("none of the runs has metrics by epoch yet")
        columns = min(3, len(shown))
        figure, axes = pictures.panels(columns, -(-len(shown) // columns))
        for axis, metric in zip(axes, shown, strict=False):
            for name, of_run in zip(self.names, curves, strict=True):
                if metric in of_run:
                    epochs, values = of_run[metric]
                    axis.plot(epochs, values, label=name, marker="." if len(epochs) < 20 else None)
            axis.set_title(metric)
            axis.set_xlabel("epoch")
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        axes[0].legend(frameon=False, fontsize="small")
        return pictures.save(figure, Path(path))


def compare(runs: Sequence[str | Path | Run]) -> Comparison:
    """Compare the settings and metrics of runs.

    Args:
        runs: at least two runs, or their directories.

    Raises:
        ConfigurationError: for fewer than two, or a directory that is no run.

    Example:
        >>> import torchplug
        >>> print(torchplug.compare(torchplug.runs("runs/mlp")[-2:]).settings)  # doctest: +SKIP
    """
    opened = tuple(run if isinstance(run, Run) else Run.open(run) for run in runs)
    if len(opened) < 2:
        raise ConfigurationError(f"there is nothing to compare with {len(opened)} run: name at least two")
    if len(set(opened)) < len(opened):
        raise ConfigurationError("a run is named twice: compare different ones")
    names = _short_names(opened)
    settings = [{name: _text(value) for name, value in flat_config(run.config).items()} for run in opened]
    differing = [name for name in _union(settings) if len({of_run.get(name) for of_run in settings}) > 1]
    last = [_last_values(run) for run in opened]
    return Comparison(
        opened,
        names,
        _table("setting", differing, names, settings, pl.String),
        _table("metric", _union(last), names, last, pl.Float64),
    )


def _table(
    label: str, rows: Sequence[str], names: Sequence[str], values: Sequence[Mapping[str, Any]], dtype: type[pl.DataType]
) -> pl.DataFrame:
    columns = [
        pl.Series(name, [of_run.get(row) for row in rows], dtype=dtype)
        for name, of_run in zip(names, values, strict=True)
    ]
    return pl.DataFrame([pl.Series(label, rows, dtype=pl.String), *columns])


def _short_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the names of the runs' directories, with those above them where names are equal."""
    names = [run.path.name for run in runs]
    if len(set(names)) == len(names):
        return tuple(names)
    return tuple(os.path.relpath(run.path) for run in runs)


def _union(mappings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys of all mappings, each once, in order."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _text(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _rows(run: Run) -> pl.DataFrame:
    """Return a run's rows of its fit, without those of later evaluations."""
    rows = run.metrics
    return rows.filter(pl.col("evaluated").is_null()) if "evaluated" in rows.columns else rows


def _last_values(run: Run) -> dict[str, float]:
    rows = _rows(run)
    if "configuration" in rows.columns and rows["configuration"].null_count():
        rows = rows.filter(pl.col("configuration").is_null())  # of all models together
    names = [name for name in rows.columns if "/" in name]
    values = {name: rows[name].drop_nulls() for name in names}
    return {name: float(column[-1]) for name, column in values.items() if len(column)}


def _curves(run: Run) -> dict[str, tuple[list[int], list[float]]]:
    """Return epochs and values of each metric."""
    rows = _rows(run)
    curves = {}
    for name in rows.columns:
        if "/" in name:
            known = rows.filter(pl.col(name).is_not_null() & pl.col("epoch").is_not_null())
            means = known.group_by("epoch").agg(pl.mean(name)).sort("epoch")  # over many models
            curves[name] = (means["epoch"].to_list(), means[name].to_list())
    return curves
