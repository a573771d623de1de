"""The table at the end of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from torchplug.terminal import printable
from torchplug.tracking.jsonl import plain_values
from torchplug.tracking.run import Run

_PARTS = {"train": "train", "val": "validation", "test": "test"}


def summary_table(metrics: Mapping[str, Any], title: str | None = None) -> Table:
    """Final metrics, a row for each and a column for each part of the data.

    Args:
        metrics: values by name, `val/rmse`, such as `trainer.callback_metrics`; names of no part
            (`lr-Adam`) are left out, and undefined values are shown as a dash.
        title: what stands above.
    """
    values = plain_values(metrics)
    split = [name.partition("/") for name in values]
    parts = [part for part in _PARTS if any(prefix == part for prefix, _, _ in split)]
    table = Table("metric", title=title, title_justify="left")
    for part in parts:
        table.add_column(_PARTS[part], justify="right")
    for metric in dict.fromkeys(metric for prefix, _, metric in split if prefix in _PARTS):
        table.add_row(metric, *(_text(values, f"{part}/{metric}") for part in parts))
    return table


def _text(values: Mapping[str, int | float | None], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    return "-" if value is None else f"{value:.6g}"


def print_summary(metrics: Mapping[str, Any], directory: Run, console: Console | None = None) -> None:
    """Print the table of final metrics and where the run lies, as plain whole lines if nobody watches.

    Args:
        metrics: as for `summary_table`.
        directory: the run's.
        console: where to; the standard output by default.
    """
    console = console or Console()
    if not console.is_terminal:
        # A file is no 80 columns wide: what is cut there cannot be read by scrolling.
        console.width = 1000
    if metrics:  # a finished run that is resumed measures nothing
        console.print(summary_table(metrics, title=printable(directory.recipe)))
    path = os.path.relpath(directory.path)
    console.print(f"run: {printable(path)}", soft_wrap=True, highlight=False, markup=False)
