"""Output of a recipe; what cannot be written does not end a run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
from rich.console import Console
from rich.table import Table

from torchplug.errors import TrainingError
from torchplug.fitting.ranks import first_rank
from torchplug.terminal import lost_output, one_line, printable, protect_streams
from torchplug.tracking.run import Run


@contextmanager
def safe_output(name: str) -> Iterator[None]:
    """Protect the standard streams for the rest of the process, and warn at the end if lines were lost.

    A run's exit status stays what it is: its files have everything. `--help` and `--print_config` have nothing but
    their output, and end with status 3 when a full disk has taken it.

    Args:
        name: the recipe's, for the warning.
    """
    protect_streams()
    try:
        yield
    except SystemExit as stop:
        if lost_output() is not None and not stop.code:
            raise SystemExit(TrainingError.exit_status) from stop
        raise
    finally:
        if (trouble := lost_output()) is not None:
            print(f"{name}: warning: part of the output is lost: {trouble.strerror}", file=sys.stderr, flush=True)


def say_notes(notes: Sequence[str]) -> None:
    """Print notes, a line each, on one rank: what was noticed in table, settings and components."""
    if first_rank():
        for note in notes:
            print(f"note: {one_line(note)}", flush=True)


def short_path(path: Path) -> str:
    """The path from here, or the whole one if that is shorter, as a shell reads it."""
    return shlex.quote(min(os.path.relpath(path), os.path.abspath(path), key=len))


def print_files(run: Run, *names: str) -> None:
    """Print the paths of files of a run directory that exist, then that of the run."""
    for file in (run.path / name for name in names):
        if file.is_file():
            label = "picture" if file.suffix == ".png" else file.stem.replace("_", " ")
            print(f"{label}: {printable(os.path.relpath(file))}")
    print(f"run: {printable(os.path.relpath(run.path))}")


def print_table(rows: pl.DataFrame, title: str) -> None:
    """Print a frame as a table, numbers to six digits, and in full lines where the output is no terminal."""
    console = Console()
    if not console.is_terminal:
        console.width = 1000  # a file is not 80 columns wide
    table = Table(title=title, title_justify="left", min_width=len(title))
    for name, kind in rows.schema.items():
        table.add_column(printable(name), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in rows.iter_rows():
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))
