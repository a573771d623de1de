"""Comparison of all ranks' data, resolved configuration and code versions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torchplug.registry.discovery import Plugin

_OWN = (
    "config",
    "ckpt_path",
    "plugins_lock",
    "output",
    "data.source",
    "data.validation",
    "data.test",
    "tracking",
    "trainer.logger",
)
"""Settings that may differ between ranks: paths, whose content is compared instead, and what rank 0 alone uses."""
_DIGEST = 16
"""Length of digests that are compared and shown."""
_SHOWN = 60
"""The most letters of a value that a message quotes."""


def description(
    settings: Mapping[str, Any], data: str, sizes: Mapping[str, int], plugins: Iterable[Plugin], checkpoint: Path | None
) -> dict[str, str]:
    """Return a description of a rank's run, as texts by name, to be compared with those of other ranks.

    Args:
        settings: the resolved configuration, nested.
        data: the fingerprint of the data's content.
        sizes: the number of rows of each split.
        plugins: those installed.
        checkpoint: the one that the run is resumed from, if any.
    """
    rows = ", ".join(f"{count} {split}" for split, count in sizes.items())
    found = {"its data": f"{rows} rows", "the content of its data": data[:_DIGEST]}
    if checkpoint is not None:
        with checkpoint.open("rb") as file:
            found["the content of its checkpoint"] = hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST]
    for name in ("torchplug", "torch", "lightning"):
        found[f"the version of {name}"] = version(name)
    for plugin in plugins:
        if plugin.distribution not in ("torchplug", None):
            found[f"the version of {plugin.distribution}"] = f"{plugin.version} ({plugin.status})"
    for name, value in _flat(settings):
        if not any(name == own or name.startswith(f"{own}.") for own in _OWN):
            found[f"--{name}"] = str(value)
    return found


def difference(descriptions: Mapping[int, Mapping[str, str]]) -> str | None:
    """Return one line that names the rank that differs from rank 0, and how; None if all are equal.

    Args:
        descriptions: of every rank.
    """
    first = descriptions[0]
    for rank, other in sorted(descriptions.items()):
        names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
        if names:
            name = names[0]
            more = f", and {len(names) - 1} more" if len(names) > 1 else ""
            return (
                f"rank {rank} differs from rank 0 in {name}: {_quoted(other.get(name))} instead of "
                f"{_quoted(first.get(name))}{more}; start every rank with the same data, settings and packages"
            )
    return None


def _quoted(value: str | None) -> str:
    if value is None:
        return "nothing"
    return value if len(value) <= _SHOWN else f"{value[:_SHOWN]}…"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            is_class = name == "class_path"  # of a component: the last part is its name
            yield (prefix[:-1], str(value).rpartition(".")[2]) if is_class else (f"{prefix}{name}", value)
