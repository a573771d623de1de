"""Installed distributions with plugins: what their metadata say, and whether their files are as installed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.message import Message
from functools import cached_property
from importlib.metadata import Distribution, FileHash, PackagePath, distributions
from pathlib import Path
from typing import Any

from torchplug.registry.in_place import digests, source_of
from torchplug.registry.permissions import BUILTIN, canonical_name

GROUP = "torchplug"
"""The entry-point group of plugins."""

_OF_THE_WHEEL = ("METADATA", "entry_points.txt")
"""Files of a dist-info folder that come from the wheel; others depend on what installed it, and when."""
_KNOWN_HASHES = ("sha256", "sha384", "sha512")
_HOME_PAGES = ("homepage", "home", "home-page", "repository", "source", "source code", "documentation")
"""Labels of a project's addresses that serve as its home page, best first."""


def advertisers() -> dict[str, Distribution]:
    """The distributions with an entry point of this group, by normalised name.

    An editable install may be on `sys.path` twice; as for imports, the first one counts. A folder
    without a name in its metadata is the remainder of an uninstallation, not a distribution.
    """
    found: dict[str, Distribution] = {}
    for distribution in distributions():
        try:
            # Reading the small file first spares parsing the metadata of everything that is installed.
            if GROUP not in (distribution.read_text("entry_points.txt") or ""):
                continue
            metadata = distribution.metadata
        except (OSError, ValueError):  # undecodable: its distribution cannot be determined
            continue
        if "Name" in metadata:
            found.setdefault(canonical_name(metadata["Name"]), distribution)
    return found


def version_of(distribution: Distribution) -> str:
    """Its version; empty if its metadata have none."""
    return str(_metadata(distribution).get("Version", ""))


@dataclass(frozen=True)
class Installation:
    """What is known of an installed distribution without importing it.

    Args:
        name: its normalised name.
        distribution: its metadata.
    """

    name: str
    distribution: Distribution

    @property
    def version(self) -> str:
        """Its version; empty if its metadata have none."""
        return version_of(self.distribution)

    @property
    def author(self) -> str:
        """Its author, else its maintainer, with name or address; empty if none is named."""
        return self._first("Author", "Author-email", "Maintainer", "Maintainer-email")

    @property
    def home_page(self) -> str:
        """The address of its home page, else of its source; empty if there is none."""
        labelled = dict(_labelled(self._fields("Project-URL")))
        pages = [labelled[label] for label in _HOME_PAGES if label in labelled]
        return pages[0] if pages else self._first("Home-page")

    @cached_property
    def requirement(self) -> str:
        """The versions of torchplug that it requires, such as `>=0.2`; empty for any."""
        from packaging.requirements import InvalidRequirement, Requirement

        for text in self.distribution.requires or ():
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue
            if canonical_name(requirement.name) == BUILTIN and (requirement.marker is None or _applies(requirement)):
                return str(requirement.specifier)
        return ""

    def accepts(self, version: str) -> bool:
        """Whether it can be used with a version of torchplug."""
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(self.requirement).contains(version, prereleases=True)

    @cached_property
    def source(self) -> Path | None:
        """The folder that it is installed in place from, as by `pip install -e`; None if it is not."""
        return source_of(self.distribution)

    @cached_property
    def hash(self) -> str | None:
        """A SHA-256 digest over paths and hashes of its files; None if they are not recorded.

        It covers what the wheel holds, so that it is the same on every machine. Of an installation in place, whose
        code is not recorded, it covers the code as it is now.
        """
        files = {path.as_posix(): recorded.value for path, recorded in self._recorded()}
        if self.source is not None:
            files = {path: value for path, value in files.items() if ".dist-info/" in path}
            code = digests(self.source, self._modules)
            files = files | code if code else {}
        if not files:
            return None
        lines = sorted(f"{path} {value}" for path, value in files.items())
        return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @cached_property
    def altered(self) -> tuple[str, ...]:
        """Its files that are missing or differ from their recorded hashes."""
        return tuple(path.as_posix() for path, recorded in self._recorded() if not _is_as_recorded(path, recorded))

    @property
    def _modules(self) -> list[str]:
        """What its entry points name; nothing if they are malformed, which `torchplug plugins` says."""
        try:
            return [point.module for point in self.distribution.entry_points.select(group=GROUP)]
        except Exception:
            return []

    def _recorded(self) -> Iterator[tuple[PackagePath, FileHash]]:
        """The files of the wheel that have a recorded hash."""
        for path in self.distribution.files or ():
            of_installer = path.parts[0].endswith(".dist-info") and path.name not in _OF_THE_WHEEL
            if (
                path.hash is not None
                and path.hash.mode in _KNOWN_HASHES
                and ".." not in path.parts
                and not of_installer
            ):
                yield path, path.hash

    def _first(self, *names: str) -> str:
        return next((value for name in names for value in self._fields(name) if value), "")

    def _fields(self, name: str) -> list[str]:
        values: list[str] = _metadata(self.distribution).get_all(name, [])
        return [" ".join(value.split()) for value in values]


def installations() -> Mapping[str, Installation]:
    """All distributions with plugins, by normalised name, in this order."""
    return {name: Installation(name, distribution) for name, distribution in sorted(advertisers().items())}


def _metadata(distribution: Distribution) -> Message:
    metadata: Any = distribution.metadata
    return metadata  # type: ignore[no-any-return]


def _labelled(urls: list[str]) -> Iterator[tuple[str, str]]:
    for url in urls:
        label, _, address = url.partition(",")
        yield label.strip().lower(), address.strip()


def _applies(requirement: Any) -> bool:
    return bool(requirement.marker.evaluate({"extra": ""}))


def _is_as_recorded(path: PackagePath, recorded: FileHash) -> bool:
    try:
        with open(path.locate(), "rb") as file:
            digest = hashlib.file_digest(file, recorded.mode).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == recorded.value.rstrip("=")
