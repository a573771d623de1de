"""One setting as a file, a variable or a flag gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from yaml import YAMLError  # type: ignore[import-untyped]

from torchplug.bounded_yaml import load
from torchplug.errors import ConfigurationError


@dataclass(frozen=True)
class Given:
    """One setting as it was given.

    Args:
        path: the setting's name, taken apart at its dots.
        value: text from flags and variables; from files anything that YAML holds.
        where: how errors name it: a flag, a variable, or a file with the setting's name.
        appends: whether the value is added to a list (`+=`).
    """

    path: tuple[str, ...]
    value: Any
    where: str
    appends: bool = False

    def inside(self, value: Any, *path: str) -> Given:
        """A part of this setting, such as a parameter from a mapping that names a component."""
        where = ".".join((self.where, *path))
        return replace(self, path=(*self.path, *path), value=value, where=where, appends=False)

    def within(self, current: Any, path: Sequence[str]) -> Given:
        """The value of a mapping, given by one of its keys; itself where there is no path."""
        if not path:
            return self
        return replace(self, value={**(current if isinstance(current, Mapping) else {}), ".".join(path): self.value})


def structure(given: Given) -> Any:
    """A name, a mapping, a list or None, from text as well."""
    text = given.value
    if not isinstance(text, str) or text.lstrip()[:1] not in ("{", "["):
        return None if text == "null" else text
    try:
        return load(text)
    except YAMLError as error:
        raise ConfigurationError(f"{given.where}: {text} is neither a name nor valid YAML") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{given.where}: {error}") from error
