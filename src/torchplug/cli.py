"""The command `torchplug`: lists and describes components and plugins."""

from __future__ import annotations

import argparse
import difflib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from typing import Any, NoReturn

from torchplug import __version__, interruption
from torchplug.errors import ConfigurationError, TorchplugError, TrainingError
from torchplug.registry import Registry, registry
from torchplug.registry.component import Family
from torchplug.registry.discovery import Plugin
from torchplug.registry.docstrings import describe, page, summarize
from torchplug.terminal import lost_output, one_line, printable, protect_streams


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: what follows the command's name; by default the process's own.

    Returns:
        The exit status: 0; 2 if the input was refused; 3 if the output could not be written (0 if its reader
        closed the pipe); 130 after Ctrl-C.
    """
    with interruption.handled("torchplug", lambda: True):
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            return interruption.INTERRUPTED


def _run(arguments: Sequence[str] | None) -> int:
    protect_streams()
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], str] = options.command
    try:
        print(command(options), flush=True)
    except TorchplugError as error:
        return _fail(str(error), error.exit_status)
    if (trouble := lost_output()) is not None:
        return _fail(f"the output cannot be written: {trouble.strerror}", TrainingError.exit_status)
    return 0


def _fail(message: str, status: int) -> int:
    print(f"torchplug: error: {one_line(message)}", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Refuses in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"torchplug: error: {one_line(message)} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="torchplug", description="Components by name: which there are, and where they come from.")
    parser.add_argument("--version", action="version", version=f"torchplug {__version__}")
    commands = parser.add_subparsers(required=True, metavar="list | describe | plugins")

    listing = commands.add_parser("list", help="every component, by family", description="List components.")
    listing.add_argument("family", nargs="?", help=f"only one of {', '.join(family.plural for family in Family)}")
    listing.add_argument("--filter", default="", metavar="TEXT", help="only those with TEXT in name, owner or summary")
    listing.set_defaults(command=_list)

    describing = commands.add_parser(
        "describe",
        help="formula, parameters and reference of a component",
        description="Describe the component of a name, in every family that has it. JSON is a list of objects.",
    )
    describing.add_argument("name", help="name, or distribution:name")
    describing.add_argument("--family", help="only in this family")
    describing.set_defaults(command=_describe)

    plugins = commands.add_parser(
        "plugins", help="installed plugins and their state", description="List the installed plugins."
    )
    plugins.set_defaults(command=_plugins)
    for command in (listing, describing, plugins):
        command.add_argument("--json", action="store_true", help="for programs")
    return parser


def _known() -> Registry:
    """The registry; plugins that failed to load are reported."""
    # What a plugin prints while it is imported must not stand in the way of JSON.
    with redirect_stdout(sys.stderr):
        known = registry()
    for plugin in known.plugins:
        if plugin.status in ("broken", "missing"):
            print(f"torchplug: warning: {one_line(str(plugin.trouble))}", file=sys.stderr)
    return known


def _list(options: argparse.Namespace) -> str:
    known = _known()
    text = options.filter.casefold()
    entries = [
        entry
        for entry in known.entries(_family(options.family))
        if any(text in part.casefold() for part in (entry.qualified_name, entry.component.summary))
    ]
    if options.json:
        return _json([summarize(entry) for entry in entries])
    rows = [[e.family.value, known.shortest_name(e), e.distribution, e.version, e.component.summary] for e in entries]
    return _table(["family", "name", "owner", "version", "summary"], rows)


def _describe(options: argparse.Namespace) -> str:
    family = _family(options.family)
    with redirect_stdout(sys.stderr):
        known = registry()
        entries = known.find_all(options.name) if family is None else [known.find(family, options.name)]
        descriptions = [describe(known, entry) for entry in entries]
    if options.json:
        return _json(descriptions)
    return printable("\n\n\n".join(map(page, descriptions)), lines=True)


def _plugins(options: argparse.Namespace) -> str:
    with redirect_stdout(sys.stderr):
        plugins = registry().plugins
    if options.json:
        return _json([_record(plugin) for plugin in plugins])
    return "\n\n".join(map(_provenance, plugins))


def _family(name: str | None) -> Family | None:
    """A family by its name in the singular or plural."""
    if name is None:
        return None
    names = {form: family for family in Family for form in (family.value, family.plural)}
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"families are {', '.join(family.plural for family in Family)}"
        raise ConfigurationError(f"unknown family {name!r}: {hint}")
    return names[name]


def _record(plugin: Plugin) -> dict[str, Any]:
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "entry_point": plugin.entry_point,
        "status": plugin.status,
        "hooks": list(plugin.hooks),
        "components": [{"family": family.value, "name": component.name} for family, component in plugin.components],
        "error": plugin.error,
        "note": plugin.note,
        "seconds": round(plugin.seconds, 6),
    }


def _provenance(plugin: Plugin) -> str:
    """The status of a plugin as text."""
    lines = [" ".join(map(printable, filter(None, (plugin.distribution, plugin.version, plugin.status))))]
    for family in Family:
        names = [component.name for owner, component in plugin.components if owner is family]
        if family.hook in plugin.hooks:
            lines.append(f"    {family.hook}: {', '.join(names) or 'none'}")
    remark = plugin.error or plugin.note or plugin.trouble
    lines += [f"    {one_line(remark)}"] if remark else []
    return "\n".join(lines)


def _json(value: Any) -> str:
    return printable(json.dumps(value, indent=2, ensure_ascii=False), lines=True)


def _table(header: list[str], rows: list[list[str]]) -> str:
    """Aligned columns: fitted to a terminal, and never cut for a pipe."""
    rows = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        return _terminal_table(header, rows)
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)


def _terminal_table(header: list[str], rows: list[list[str]]) -> str:
    # Imported here: rich is as dear as all the rest of this command, and a pipe does without.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for title in header:
        table.add_column(title, overflow="fold", no_wrap=title != header[-1])
    for row in rows:
        table.add_row(*map(Text, row))  # Text: square brackets are no markup here
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
