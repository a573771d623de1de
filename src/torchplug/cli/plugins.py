"""`torchplug plugins` and `torchplug lock`: what is installed, where it comes from, and in which state it is."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from torchplug.cli.output import Commands, as_json, offer_json
from torchplug.errors import TorchplugError
from torchplug.registry import Entry, Registry, registry
from torchplug.registry.component import Family
from torchplug.registry.discovery import Plugin
from torchplug.registry.installed import Installation, installations
from torchplug.registry.lock import lock
from torchplug.terminal import one_line, printable


def add_to(commands: Commands) -> None:
    """Declare the subcommands."""
    plugins = commands.add_parser(
        "plugins", help="installed plugins and their state", description="List the installed plugins."
    )
    plugins.add_argument(
        "--targets", action="store_true", help="import their components too: time, errors, and changed global state"
    )
    plugins.set_defaults(command=_plugins)
    offer_json(plugins)

    locking = commands.add_parser(
        "lock",
        help="a file that keeps plugins as they are now",
        description="Print the plugins that may load, with versions and hashes of their files: torchplug lock > "
        "plugins.lock. A recipe's --plugins_lock plugins.lock then refuses any difference.",
    )
    locking.set_defaults(command=lambda options: lock())


@dataclass(frozen=True)
class _Target:
    """A component whose target was imported, and its signature read."""

    entry: Entry
    seconds: float
    error: str | None

    def plain(self) -> dict[str, Any]:
        return {
            "family": self.entry.family.value,
            "name": self.entry.name,
            "seconds": round(self.seconds, 6),
            "error": self.error,
        }


def _plugins(options: argparse.Namespace) -> str:
    with redirect_stdout(sys.stderr):
        known = registry()
        targets = list(_imported(known)) if options.targets else None
    installed = installations()
    records = [_record(plugin, known, installed.get(plugin.distribution), targets) for plugin in known.plugins]
    return as_json(records) if options.json else "\n\n".join(map(_page, records))


def _imported(known: Registry) -> Iterator[_Target]:
    entries = [entry for entry in known.entries() if not entry.builtin]
    if entries:
        import torchplug.module  # noqa: F401  what a recipe has imported by then is no plugin's doing
    for entry in entries:
        started, error = time.perf_counter(), None
        try:
            known.parameters(entry)
        except TorchplugError as fault:
            error = str(fault)
        yield _Target(entry, time.perf_counter() - started, error)


def _record(
    plugin: Plugin, known: Registry, installation: Installation | None, targets: list[_Target] | None
) -> dict[str, Any]:
    """Everything about a plugin as plain types."""
    return {
        "distribution": plugin.distribution,
        "version": plugin.version,
        "author": installation.author if installation else "",
        "home_page": installation.home_page if installation else "",
        "requires": installation.requirement if installation else "",
        "hash": installation.hash if installation else None,
        "source": str(installation.source) if installation and installation.source else None,
        "altered": list(installation.altered) if installation else [],
        "entry_point": plugin.entry_point,
        "status": plugin.status,
        "hooks": list(plugin.hooks),
        "components": [{"family": family.value, "name": component.name} for family, component in plugin.components],
        "shares": [
            {"family": family.value, "name": component.name, "with": others}
            for family, component in plugin.components
            if (others := known.other_owners(family, component.name, plugin.distribution))
        ],
        "error": plugin.error,
        "note": plugin.note,
        "trouble": plugin.trouble,
        "seconds": round(plugin.seconds, 6),
        "changed": known.changed(plugin.distribution),
        "targets": None if targets is None else [t.plain() for t in targets if _is_of(t, plugin)],
    }


def _is_of(target: _Target, plugin: Plugin) -> bool:
    return (target.entry.family, target.entry.component) in plugin.components and (
        target.entry.distribution == plugin.distribution
    )


def _page(record: dict[str, Any]) -> str:
    """A record as people read it."""
    lines = [" ".join(map(printable, filter(None, (record["distribution"], record["version"], record["status"]))))]
    for family in Family:
        names = [known["name"] for known in record["components"] if known["family"] == family.value]
        if family.hook in record["hooks"] and record["status"] == "loaded":
            lines.append(f"    {family.hook}: {', '.join(names) or 'none'}")
    if remark := record["error"] or record["note"] or record["trouble"]:
        lines.append(f"    {one_line(remark)}")
    for known in record["shares"]:
        lines.append(f"    shares the {known['family']} {known['name']} with {', '.join(known['with'])}")
    for target in record["targets"] or ():
        if target["error"]:
            lines.append(f"    {one_line(target['error'])}")
    details = {
        "by": " ".join(filter(None, (record["author"], record["home_page"]))),
        "needs torchplug": record["requires"],
        "files": _files(record) if record["status"] != "missing" else "",
        "loaded in": f"{record['seconds']:.3f} s" if record["status"] == "loaded" else "",
        "components imported in": _seconds(record["targets"]),
        "changed": ", ".join(record["changed"]),
    }
    return "\n".join([*lines, *(f"    {name}: {one_line(value)}" for name, value in details.items() if value)])


def _files(record: dict[str, Any]) -> str:
    if record["altered"]:
        return f"changed since the installation: {', '.join(record['altered'])}"
    place = f" of the code in {record['source']}, where it is installed in place" if record["source"] else ""
    return f"{record['hash']}{place}" if record["hash"] else "not recorded"


def _seconds(targets: list[dict[str, Any]] | None) -> str:
    return f"{sum(target['seconds'] for target in targets):.3f} s" if targets else ""
