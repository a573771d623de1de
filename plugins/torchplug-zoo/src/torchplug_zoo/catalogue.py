"""The components of the installed libraries.

What the libraries' versions offer that the zoo was generated for is in `catalogue.json`, whose reading takes
milliseconds. Of another version the names are read from its sources, and the summaries of those that are new.
`renew.py`, beside this distribution's sources, renews the file for the installed versions.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torchplug import Component, Family
from torchplug_zoo.declared import GROUPS, INTERVALS, LICENSES, TARGETS, capabilities
from torchplug_zoo.libraries import LIBRARIES, Library
from torchplug_zoo.sources import folder_of, summary_of

DATA = Path(__file__).with_name("catalogue.json")
_LONGEST = 80
"""Characters of a summary."""

Offers = Mapping[str, tuple[str, str]]
"""Target and summary, by the name in the library."""


def components(family: Family) -> list[Component]:
    """Return the components of a family that the installed libraries offer."""
    return [_component(library, *offer) for library in LIBRARIES if library.family is family for offer in _of(library)]


def installed_version(library: Library) -> str | None:
    """Return the public part of a library's version; None if it is not installed."""
    try:
        return version(library.distribution).split("+")[0]
    except PackageNotFoundError:
        return None


def offers(library: Library, known: Offers) -> dict[str, tuple[str, str]]:
    """Read from a library's sources what it offers.

    Args:
        library: the library.
        known: what another version of it offered, whose summaries are kept.
    """
    folder = folder_of(library.package)
    found: dict[str, tuple[str, str]] = {}
    if folder is None:
        return found
    for name, (package, module) in library.targets(folder).items():
        summary = known[name][1] if name in known else summary_of(name, module, folder)
        found[name] = (f"{package}:{name}", summary or name)
    return found


def _of(library: Library) -> Iterator[tuple[str, str, str]]:
    """Name, target and summary of each."""
    present = installed_version(library)
    if present is None:
        return
    kept = stored().get(library.key, {"version": "", "offers": {}})
    known: Offers = kept["offers"]
    if present != kept["version"]:
        known = offers(library, known)
    yield from ((name, target, summary) for name, (target, summary) in known.items())


def _component(library: Library, original: str, target: str, summary: str) -> Component:
    name = library.name(original)
    license = f" ({LICENSES[name]})" if name in LICENSES else ""
    return Component(
        name,
        TARGETS.get(name, target),
        textwrap.shorten(summary, _LONGEST - len(license), placeholder=" …") + license,
        capabilities(name) if library.family is Family.OPTIMIZER else frozenset(),
        groups=GROUPS.get(name),
        interval=INTERVALS.get(name),
    )


@cache
def stored() -> dict[str, Any]:
    """Return the content of the data file."""
    return dict(json.loads(DATA.read_text(encoding="utf-8")))
