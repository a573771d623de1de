"""`torchplug plugins`: what is installed, and in which state."""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from typing import Any

from torchplug.cli.output import Commands, as_json, offer_json
from torchplug.registry import registry
from torchplug.registry.component import Family
from torchplug.registry.discovery import Plugin
from torchplug.terminal import one_line, printable


def add_to(commands: Commands) -> None:
    """Declare the subcommand."""
    plugins = commands.add_parser(
        "plugins", help="installed plugins and their state", description="List the installed plugins."
    )
    plugins.set_defaults(command=_plugins)
    offer_json(plugins)


def _plugins(options: argparse.Namespace) -> str:
    with redirect_stdout(sys.stderr):
        plugins = registry().plugins
    if options.json:
        return as_json([_record(plugin) for plugin in plugins])
    return "\n\n".join(map(_provenance, plugins))


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
