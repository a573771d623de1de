"""Code that is not the code that a checkpoint was made with: other versions, and plugins that are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torchplug import checkpoint_record
from torchplug.checkpoint_record import KEY, installed_versions, recorded_components
from torchplug.registry import registry
from torchplug.registry.permissions import BUILTIN
from torchplug.tracking.ensemble import models_in


def version_notes(content: Mapping[str, Any]) -> list[str]:
    """Return a note for each distribution whose installed version is not the one that made a checkpoint.

    Args:
        content: of the checkpoint, of one model or an ensemble.
    """
    records = [model[KEY] for model in models_in(content)]
    return list(dict.fromkeys(note for record in records for note in checkpoint_record.version_notes(record)))


def missing_plugins(content: Mapping[str, Any]) -> list[str]:
    """Return for each plugin of a checkpoint that is not loaded why, and what to do about it.

    Args:
        content: of the checkpoint, unchecked.
    """
    installed = installed_versions()
    missing = {c["distribution"]: c for c in _components(content) if c["distribution"] not in installed}
    return [_remedy(name, component) for name, component in missing.items()]


def other_versions(content: Mapping[str, Any]) -> list[str]:
    """Return the commands that install a checkpoint's versions of plugins where others are installed."""
    installed = installed_versions()
    made_with = {component["distribution"]: component["version"] for component in _components(content)}
    return [
        f"the checkpoint was made with {name} {old}, and {installed[name]} is installed: pip install {name}=={old}"
        for name, old in made_with.items()
        if name in installed and name != BUILTIN and installed[name] != old
    ]


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
    for model in models_in(content):
        yield from recorded_components(model.get(KEY) if isinstance(model, Mapping) else None)
