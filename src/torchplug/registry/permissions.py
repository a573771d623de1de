"""Which installed plugins may load: an allow-list and a block-list, in the environment or in pyproject.toml."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from torchplug.errors import ConfigurationError
from torchplug.registry.project_file import ProjectFile

BUILTIN = "torchplug"
"""The distribution whose components own their bare names, and which always loads."""
ALLOW_LIST = "TORCHPLUG_PLUGINS"
"""The environment variable naming the distributions that may load, separated by commas."""
BLOCK_LIST = "TORCHPLUG_BLOCKED_PLUGINS"
"""The environment variable naming distributions that may not load, separated by commas."""

_KEYS = {ALLOW_LIST: "plugins", BLOCK_LIST: "blocked_plugins"}
"""The key of `[tool.torchplug]` in pyproject.toml that an environment variable takes precedence over."""


def canonical_name(distribution: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


@dataclass(frozen=True)
class NameList:
    """A list of distributions.

    Args:
        names: normalised names.
        origin: where the list stands, for messages.
    """

    names: frozenset[str]
    origin: str


@dataclass(frozen=True)
class Permissions:
    """What may load.

    Args:
        allowed: the only distributions that may; None: all.
        blocked: those that may not, even if they are allowed.
    """

    allowed: NameList | None = None
    blocked: NameList | None = None

    @classmethod
    def current(cls) -> Permissions:
        """Read the environment, and the pyproject.toml of the working directory or the nearest directory above it.

        Raises:
            ConfigurationError: if the file or a list is malformed, in one line.
        """
        project = ProjectFile.nearest()
        return cls(*(_read(variable, project) for variable in (ALLOW_LIST, BLOCK_LIST)))

    def refusal(self, distribution: str) -> str | None:
        """The origin of the list that keeps a distribution from loading; None if it may load.

        Args:
            distribution: its normalised name.
        """
        if distribution == BUILTIN:
            return None
        if self.blocked is not None and distribution in self.blocked.names:
            return self.blocked.origin
        if self.allowed is not None and distribution not in self.allowed.names:
            return self.allowed.origin
        return None

    def missing(self, installed: Iterable[str]) -> dict[str, str]:
        """Names that are allowed but no installed plugins, each with the list's origin."""
        if self.allowed is None:
            return {}
        return dict.fromkeys(sorted(self.allowed.names - {*installed, BUILTIN}), self.allowed.origin)


def _read(variable: str, project: ProjectFile) -> NameList | None:
    key = _KEYS[variable]
    if (value := os.environ.get(variable)) is not None:
        names, origin = value.split(","), variable
    elif key in project.settings:
        names, origin = project.settings[key], f"tool.torchplug.{key} of {project.path}"
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ConfigurationError(
                f"{project.path}: tool.torchplug.{key} must be a list of distributions, such as ['a', 'b']"
            )
    else:
        return None
    found = frozenset(canonical_name(name.strip()) for name in names if name.strip())
    if variable == BLOCK_LIST and BUILTIN in found:
        raise ConfigurationError(f"{origin} names {BUILTIN}, whose built-in components cannot be blocked: leave it out")
    return NameList(found, origin)
