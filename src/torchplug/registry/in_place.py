"""Installations in place (`pip install -e`): where their source is, and the files that are imported from there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path

_NO_CODE = ("__pycache__", ".egg-info")
"""What the names of folders end with whose files are made by tools."""


def source_of(distribution: Distribution) -> Path | None:
    """Return the folder that a distribution is installed in place from; None if it is not."""
    try:
        content = json.loads(distribution.read_text("direct_url.json") or "{}")
        if not content["dir_info"]["editable"]:
            return None
        from urllib.parse import urlparse
        from urllib.request import url2pathname

        return Path(url2pathname(urlparse(content["url"]).path))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def digests(source: Path, modules: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 digests of the code that modules are imported with, by paths that do not name the machine.

    It is all that can be imported from a `src` folder of the source; elsewhere it is the modules' own packages.
    Nothing is imported.

    Args:
        source: from `source_of`.
        modules: their full names, such as those of entry points.
    """
    found: dict[str, str] = {}
    for name in sorted({module.partition(".")[0] for module in modules}):
        for place in _places(name):
            within = place.parent != source and place.parent.is_relative_to(source)
            for file in _files(place.parent if within else place):
                found[file.relative_to(place.parent).as_posix()] = _digest(file)
    return found


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        return str(error.strerror)


def _places(package: str) -> list[Path]:
    """The folders of a package, or the file of a module; none if it cannot be found."""
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    folders = spec.submodule_search_locations
    places = [Path(place) for place in (folders if folders is not None else [spec.origin or ""])]
    return [place.resolve() for place in places if place.exists()]


def _files(place: Path) -> Iterator[Path]:
    for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
        parts = file.relative_to(place).parts
        made = any(part.startswith(".") or part.endswith(_NO_CODE) for part in parts)
        if file.is_file() and not made:
            yield file
