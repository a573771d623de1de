"""What subcommands print: JSON for programs, tables for people."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NamedTuple, TypeAlias

from torchplug.terminal import printable

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What subcommands are added to."""


class Printed(NamedTuple):
    """What a subcommand prints, where its exit status may be another than 0."""

    text: str
    status: int = 0


def offer_json(command: argparse.ArgumentParser) -> None:
    """Give a subcommand the option `--json`."""
    command.add_argument("--json", action="store_true", help="for programs")


def as_json(value: Any) -> str:
    """A value as indented JSON, safe to print."""
    return printable(json.dumps(value, indent=2, ensure_ascii=False), lines=True)


def table(header: list[str], rows: list[list[str]]) -> str:
    """Aligned columns: fitted to a terminal, and never cut for a pipe."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        return _terminal_table(header, rows)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def _terminal_table(header: list[str], rows: list[list[str]]) -> str:
    # Imported here: it takes as long as all the rest of this command, and a pipe does not need it.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD)
    for title in header:
        shown.add_column(title, overflow="fold", no_wrap=title != header[-1])
    for row in rows:
        shown.add_row(*map(Text, row))  # Text: square brackets are no markup here
    console = Console()
    with console.capture() as captured:
        console.print(shown)
    return captured.get().rstrip("\n")
