"""A project's pyproject.toml: its table `[tool.torchplug]`, and the distribution that it makes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torchplug.errors import ConfigurationError

NAME = "pyproject.toml"

_KEYS = ("plugins", "blocked_plugins", "check")
"""What `[tool.torchplug]` may hold: which plugins may load, and what is declared for the checks of components."""


@dataclass(frozen=True)
class ProjectFile:
    """What a pyproject.toml says about torchplug.

    Args:
        path: the file; None: there is none, or none that mentions torchplug.
        settings: its table `[tool.torchplug]`.
        distribution: the name of the project, as it is written; empty if there is none.
    """

    path: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    distribution: str = ""

    @classmethod
    def nearest(cls) -> ProjectFile:
        """Read that of the working directory, or of the nearest directory above it that has one.

        Raises:
            ConfigurationError: if it cannot be read or is malformed, in one line.
        """
        try:
            here = Path.cwd()
        except OSError:  # it was deleted
            return cls()
        found = (folder / NAME for folder in (here, *here.parents) if (folder / NAME).is_file())
        path = next(found, None)
        return cls() if path is None else cls.read(path)

    @classmethod
    def read(cls, path: Path) -> ProjectFile:
        """Read a file.

        Raises:
            ConfigurationError: if it cannot be read or is malformed, in one line.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
        if b"torchplug" not in content:
            return cls()
        from tomllib import TOMLDecodeError, loads  # a few milliseconds, which other projects are spared

        try:
            tables = loads(content.decode())
            settings = tables.get("tool", {}).get("torchplug", {})
            name = tables.get("project", {}).get("name", "")
        except (TOMLDecodeError, UnicodeDecodeError, AttributeError) as error:
            raise ConfigurationError(f"{path} is malformed: {' '.join(str(error).split())}") from error
        if not isinstance(settings, dict):
            raise ConfigurationError(f"{path}: tool.torchplug must be a table")
        refuse_unknown_keys(settings, _KEYS, f"{path}: tool.torchplug")
        return cls(path, settings, str(name))


def refuse_unknown_keys(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    """Refuse keys of a table that there are not.

    Args:
        table: from a file.
        known: the keys that there are.
        where: the file and the table's name.

    Raises:
        ConfigurationError: with the nearest key, or all of them.
    """
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"keys are {', '.join(known)}"
            raise ConfigurationError(f"{where} has no key {key!r}: {hint}")
