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

_SPLITS = {"train": "train", "val": "validation", "test": "test"}


def summary_table(metrics: Mapping[str, Any], title: str | None = None) -> Table:
    """Return a table of final metrics, with a row per metric and a column per split.

    Args:
        metrics: values by name, `val/rmse`, such as `trainer.callback_metrics`; names without a split
            (`lr-Adam`) are omitted, and undefined values are shown as a dash.
        title: the title.
    """
    values = plain_values(metrics)
    named = [name.partition("/") for name in values]
    splits = [split for split in _SPLITS if any(prefix == split for prefix, _, _ in named)]
    table = Table("metric", title=title, title_justify="left", min_width=len(title or ""))
    for split in splits:
        table.add_column(_SPLITS[split], justify="right")
    for metric in dict.fromkeys(metric for prefix, _, metric in named if prefix in _SPLITS):
        table.add_row(metric, *(_text(values, f"{split}/{metric}") for split in splits))
    return table


def _text(values: Mapping[str, int | float | None], name: str) -> str:
    if name not in values:
        return ""
    value = values[name]
    return "-" if value is None else f"{value:.6g}"


def print_summary(metrics: Mapping[str, Any], directory: Run, console: Console | None = None) -> None:
    """Print the table of final metrics and the run's path, as plain full lines if the output is not a terminal.

    Args:
        metrics: as for `summary_table`.
        directory: the run.
        console: the console; standard output by default.
    """
    console = console or Console()
    if not console.is_terminal:
        # A file is not 80 columns wide, and text truncated there is lost.
        console.width = 1000
    if metrics:  # a finished run that is resumed measures nothing
        console.print(summary_table(metrics, title=printable(directory.recipe)))
    path = os.path.relpath(directory.path)
    console.print(f"run: {printable(path)}", soft_wrap=True, highlight=False, markup=False)
