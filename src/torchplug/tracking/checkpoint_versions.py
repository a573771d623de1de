"""Code that is not the code that a checkpoint was made with: other versions, and plugins that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from torchplug.checkpoint_record import KEY
from torchplug.registry import registry
from torchplug.registry.permissions import BUILTIN
from torchplug.tracking.ensemble import models_in

RECORDED = ("family", "name", "distribution", "version")
"""Entries of each component in a checkpoint."""


def version_notes(content: Mapping[str, Any]) -> list[str]:
    """Return a note for each distribution whose installed version is not the one that made a checkpoint.

    Args:
        content: of the checkpoint; its record names torchplug's version, and the components in use with theirs.
    """
    installed = _installed()
    made_with = {BUILTIN: content[KEY].get("version")}
    for component in _components(content):
        made_with.setdefault(component["distribution"], component["version"])
    return [
        f"the checkpoint was made with {name} {old}, and {installed[name]} is installed: results may differ"
        for name, old in made_with.items()
        if name in installed and old is not None and installed[name] != old
    ]


def missing_plugins(content: Mapping[str, Any]) -> list[str]:
    """Return for each plugin of a checkpoint that is not loaded why, and what to do about it.

    Args:
        content: of the checkpoint, unchecked.
    """
    installed = _installed()
    missing = {c["distribution"]: c for c in _components(content) if c["distribution"] not in installed}
    return [_remedy(name, component) for name, component in missing.items()]


def other_versions(content: Mapping[str, Any]) -> list[str]:
    """Return the commands that install a checkpoint's versions of plugins where others are installed."""
    installed = _installed()
    made_with = {component["distribution"]: component["version"] for component in _components(content)}
    return [
        f"the checkpoint was made with {name} {old}, and {installed[name]} is installed: pip install {name}=={old}"
        for name, old in made_with.items()
        if name in installed and name != BUILTIN and installed[name] != old
    ]


def _installed() -> dict[str, str]:
    """The versions of loaded plugins, built-in components included, by distribution."""
    loaded = {plugin.distribution: plugin.version for plugin in registry().plugins if plugin.status == "loaded"}
    return {**loaded, BUILTIN: version(BUILTIN)}


def _remedy(name: str, component: Mapping[str, str]) -> str:
    made_with = (
        f"it was made with {component['name']} ({component['family']}) of {name} {component['version']}".rstrip()
    )
    trouble = next((plugin.trouble for plugin in registry().plugins if plugin.distribution == name), None)
    if trouble is not None:
        return f"{made_with}, and {trouble}"
    exactly = f"=={component['version']}" if component["version"] else ""
    return f"{made_with}, which is not installed: pip install {name}{exactly}"


def _components(content: Mapping[str, Any]) -> Iterator[Mapping[str, str]]:
    """The components that a checkpoint's record names, those that are malformed left out."""
    for model in models_in(content):
        record = model.get(KEY) if isinstance(model, Mapping) else None
        components = record.get("components") if isinstance(record, Mapping) else None
        for component in components if isinstance(components, list) else ():
            if isinstance(component, Mapping) and all(isinstance(component.get(name), str) for name in RECORDED):
                yield component
