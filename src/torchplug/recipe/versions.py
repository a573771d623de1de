"""Notes on code that is not the code that a checkpoint was made with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from torchplug.checkpoint_record import KEY
from torchplug.errors import TorchplugError
from torchplug.registry import registry
from torchplug.registry.component import Family
from torchplug.tracking.ensemble import models_in


def version_notes(content: Mapping[str, Any]) -> list[str]:
    """Return a note for each distribution whose installed version is not the one that made a checkpoint.

    Args:
        content: of the checkpoint; its record names torchplug's version, and the components in use with theirs.
    """
    made_with: dict[str, Any] = {"torchplug": content[KEY].get("version")}
    components = [component for model in models_in(content) for component in model[KEY]["components"]]
    for component in components:
        made_with.setdefault(component["distribution"], component["version"])
    return [
        f"the checkpoint was made with {name} {old}, and {new} is installed: results may differ"
        for name, old in made_with.items()
        if (new := _installed(name, components)) is not None and old is not None and new != old
    ]


def _installed(distribution: str, components: Sequence[Mapping[str, Any]]) -> str | None:
    """The version that is in use; None where the components are gone, which loading will say."""
    if distribution == "torchplug":
        return version("torchplug")
    for component in components:
        if component["distribution"] == distribution:
            try:
                return registry().find(Family(component["family"]), component["name"]).version
            except (TorchplugError, ValueError):
                return None
    return None
