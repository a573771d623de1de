"""`torchplug list` and `torchplug describe`: the components of all plugins."""

from __future__ import annotations

import argparse
import difflib
import sys
from contextlib import redirect_stdout
from fnmatch import fnmatchcase

from torchplug.cli.output import Commands, as_json, offer_json, table
from torchplug.errors import ConfigurationError
from torchplug.registry import Entry, Registry, registry
from torchplug.registry.component import Family
from torchplug.registry.docstrings import describe, page, summarize
from torchplug.terminal import one_line, printable


def add_to(commands: Commands) -> None:
    """Declare the subcommands."""
    listing = commands.add_parser("list", help="every component, by family", description="List components.")
    families = ", ".join(family.plural for family in Family)
    listing.add_argument("what", nargs="*", help=f"one of {families}; or a pattern of names such as 'ada*'")
    listing.add_argument("--filter", default="", metavar="TEXT", help="only those with TEXT in name, owner or summary")
    listing.set_defaults(command=_list)
    offer_json(listing)

    describing = commands.add_parser(
        "describe",
        help="formula, parameters and reference of a component",
        description="Describe the component of a name, in every family that has it. JSON is a list of objects.",
    )
    describing.add_argument("name", help="name, or distribution:name")
    describing.add_argument("--family", help="only in this family")
    describing.set_defaults(command=_describe)
    offer_json(describing)


def _list(options: argparse.Namespace) -> str:
    patterns = [what for what in options.what if _is_pattern(what)]
    families = {family_of(what) for what in options.what if not _is_pattern(what)}
    known = _known()
    text = options.filter.casefold()
    entries = [
        entry
        for entry in known.entries()
        if (not families or entry.family in families)
        and (not patterns or any(_fits(entry, pattern) for pattern in patterns))
        and any(text in part.casefold() for part in (entry.qualified_name, entry.component.summary))
    ]
    if options.json:
        return as_json([summarize(entry) for entry in entries])
    rows = [[e.family.value, known.shortest_name(e), e.distribution, e.version, e.component.summary] for e in entries]
    return table(["family", "name", "owner", "version", "summary"], rows)


def _is_pattern(text: str) -> bool:
    return any(character in text for character in "*?[")


def _fits(entry: Entry, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern.lower()) for name in (entry.name, entry.qualified_name))


def _describe(options: argparse.Namespace) -> str:
    family = family_of(options.family)
    with redirect_stdout(sys.stderr):
        known = registry()
        entries = known.find_all(options.name) if family is None else [known.find(family, options.name)]
        descriptions = [describe(known, entry) for entry in entries]
    _say(known.notes(entries))
    if options.json:
        return as_json(descriptions)
    return printable("\n\n\n".join(map(page, descriptions)), lines=True)


def _known() -> Registry:
    """The registry; plugins that failed to load are reported."""
    # What a plugin prints while it is imported must not stand in the way of JSON.
    with redirect_stdout(sys.stderr):
        known = registry()
    for plugin in known.plugins:
        if plugin.status in ("broken", "missing"):
            print(f"torchplug: warning: {one_line(str(plugin.trouble))}", file=sys.stderr)
    _say(known.notes(known.entries()))
    return known


def _say(notes: list[str]) -> None:
    for note in notes:
        print(f"torchplug: note: {one_line(note)}", file=sys.stderr)


def family_of(name: str | None) -> Family | None:
    """A family by its name in the singular or plural."""
    if name is None:
        return None
    names = {form: family for family in Family for form in (family.value, family.plural)}
    if name not in names:
        near = difflib.get_close_matches(name.lower(), names, n=1)
        hint = f"did you mean {near[0]}?" if near else f"families are {', '.join(family.plural for family in Family)}"
        raise ConfigurationError(f"unknown family {name!r}: {hint}")
    return names[name]
