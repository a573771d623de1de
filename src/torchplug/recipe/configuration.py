"""Configuration files, read before the parser reads them: it would not say which file is broken, or where."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yaml import YAMLError  # type: ignore[import-untyped]

from torchplug.bounded_yaml import UnboundedError, read_text, where
from torchplug.errors import ConfigurationError
from torchplug.recipe.parser import (
    ENVIRONMENT_PREFIX,
    SUBCOMMANDS,
    load_yaml,
    position_of_subcommand,
    subcommand_of,
)

_Named = tuple[str, Mapping[str, Any]]
"""A file's name and content."""
_FLAG = re.compile(r"(?:-c|--config)(?:=(.*))?$")


def configurations(arguments: Sequence[str]) -> list[Mapping[str, Any]]:
    """The contents of the configuration files, in the order in which they count: environment, then `--config`.

    What is no file is left to the parser, which also takes the settings themselves there.

    Raises:
        ConfigurationError: if a file cannot be read as settings.
    """
    return [content for _, content in [*_general(arguments), *_specific(arguments)]]


def refuse_misplaced(arguments: Sequence[str]) -> None:
    """Refuse files whose settings are for another place: before the subcommand or after it.

    Raises:
        ConfigurationError: naming the file and where its settings belong.
    """
    subcommand = subcommand_of(arguments) or "fit"
    for name, content in _general(arguments):
        if (stray := next((key for key in content if key not in (*SUBCOMMANDS, "subcommand")), None)) is not None:
            raise ConfigurationError(
                f"{name} holds {stray}, which is a setting of a subcommand: give it after the subcommand "
                f"({subcommand} --config FILE), or put its content under `{subcommand}:`"
            )
    for name, content in _specific(arguments):
        if (stray := next((key for key in content if key in SUBCOMMANDS), None)) is not None:
            raise ConfigurationError(
                f"{name} holds settings under `{stray}:`: give it before the subcommand (--config FILE {subcommand})"
            )


def _general(arguments: Sequence[str]) -> list[_Named]:
    """Files with settings of all subcommands: from the environment, and before the subcommand."""
    end = position_of_subcommand(arguments)
    return _read([*_variable("CONFIG"), *_flags(arguments[:end])])


def _specific(arguments: Sequence[str]) -> list[_Named]:
    """Files with settings of one subcommand."""
    subcommand, end = subcommand_of(arguments), position_of_subcommand(arguments)
    return _read([*_variable(f"{subcommand or ''}__CONFIG".upper()), *_flags(arguments[end:])])


def _variable(name: str) -> list[str]:
    value = os.environ.get(f"{ENVIRONMENT_PREFIX}_{name}")
    return [value] if value else []


def _flags(arguments: Sequence[str]) -> list[str]:
    following = [*arguments[1:], ""]
    return [
        match[1] or after
        for argument, after in zip(arguments, following, strict=False)
        if (match := _FLAG.match(argument))
    ]


def _read(values: Sequence[str]) -> list[_Named]:
    return [(value, read_configuration(Path(value))) for value in values if os.path.lexists(value)]


def read_configuration(path: Path) -> Mapping[str, Any]:
    """A file's settings.

    Raises:
        ConfigurationError: if it cannot be read, naming the line.
    """
    try:
        content = load_yaml(read_text(path))
    except UnboundedError as error:
        raise ConfigurationError(f"{path} is no configuration: {error}") from error
    except YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML{where(error)}") from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{path} holds no settings: write them as in `model: {{loss: mse}}`")
    return content
