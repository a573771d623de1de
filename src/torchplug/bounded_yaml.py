"""YAML of bounded cost: limits of size, depth and aliases are checked before anything is built."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from yaml.reader import ReaderError  # type: ignore[import-untyped]

from torchplug.errors import ConfigurationError

LARGEST = 4 * 2**20
"""Bytes of a configuration: room for as many values as are allowed."""

MOST_VALUES = 100_000
"""Values, counting those behind an alias each time that it stands."""

DEEPEST = 100
"""Levels of nesting; Python's own stack would end at a few hundred."""

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_PARSER):  # type: ignore[misc]
    """YAML 1.1 without dates: a table or a run may be named after a day."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in _PARSER.yaml_implicit_resolvers.items()
    }


class UnboundedError(ConfigurationError):
    """YAML that exceeds a limit."""


def refuse_unbounded(text: str) -> None:
    """Check the limits in one pass over the text, building nothing.

    Raises:
        UnboundedError: if it exceeds a limit.
        yaml.YAMLError: if it is no YAML.
    """
    if len(text) > LARGEST:
        raise UnboundedError(f"YAML of {len(text)} characters: the limit is {LARGEST}")
    values = 0
    sizes: dict[str, tuple[int, int]] = {}  # of each anchored node: values, levels
    nested: list[list[Any]] = []  # of each node that is open: anchor, values before it, levels below it
    for event in yaml.parse(text, Loader=_PARSER):
        levels = 0
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _, _ in nested):
                raise UnboundedError(f"YAML whose alias *{event.anchor} contains itself: write the value out")
            size, levels = sizes.get(event.anchor, (1, 0))
            values += size
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            if event.anchor:
                sizes[event.anchor] = 1, 0
        elif isinstance(event, yaml.CollectionStartEvent):
            nested.append([event.anchor, values, 0])
            values += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before, below = nested.pop()
            levels = below + 1
            if anchor:
                sizes[anchor] = values - before, levels
        if nested:
            nested[-1][2] = max(nested[-1][2], levels)
        if len(nested) + levels > DEEPEST:
            raise UnboundedError(f"YAML nested more than {DEEPEST} levels deep")
        if values > MOST_VALUES:
            raise UnboundedError(f"YAML of more than {MOST_VALUES} values, those behind aliases included")


def load(text: str) -> Any:
    """Return the content of a text in plain types.

    Raises:
        UnboundedError: if it exceeds a limit.
        yaml.YAMLError: if it is no YAML, or holds what Python cannot convert, such as a number of 5,000 digits.
    """
    refuse_unbounded(text)
    try:
        return yaml.load(text, Loader=_Loader)
    except (ValueError, OverflowError) as error:
        raise yaml.YAMLError(str(error)) from error


def read_text(path: str | Path) -> str:
    """Return the text of a configuration file.

    Raises:
        ConfigurationError: if it is no regular file, too large, or not text in UTF-8.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is no configuration: it is not a regular file")
        if status.st_size > LARGEST:
            raise ConfigurationError(
                f"{path} is no configuration: it has {status.st_size} bytes, and the limit is {LARGEST}"
            )
        with open(path, encoding="utf-8") as file:
            return file.read(LARGEST + 1)  # files of /proc have no size
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no configuration: it is not text in UTF-8") from error
    except ValueError as error:  # a null character
        raise ConfigurationError(f"{path} cannot be read: {error}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return a configuration file's settings.

    Raises:
        ConfigurationError: if it cannot be read, naming the line.
    """
    text = read_text(path)
    try:
        content = load(text)
    except UnboundedError as error:
        raise ConfigurationError(f"{path} is no configuration: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML{where(error)}") from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} holds no settings: write them as in `model: {{loss: mse}}`")
    return content


def where(error: yaml.YAMLError) -> str:
    """Where a text is not valid YAML, and why."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
    if isinstance(error, ReaderError):
        problem = "it holds characters that YAML does not allow"
    return f"{place}: {problem or error}"
