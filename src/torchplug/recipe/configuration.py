"""Configuration files, read before the parser reads them: it would not say which file is broken, or where."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yaml import YAMLError  # type: ignore[import-untyped]

from torchplug.errors import ConfigurationError
from torchplug.recipe.parser import load_yaml

_FLAG = re.compile(r"(?:-c|--config)(?:=(.*))?$")


def configurations(arguments: Sequence[str]) -> list[Mapping[str, Any]]:
    """The contents of the files given with `--config`, in that order.

    What is no file is left to the parser, which also takes the settings themselves there.

    Raises:
        ConfigurationError: if a file cannot be read as settings.
    """
    following = [*arguments[1:], ""]
    values = [
        match[1] or after
        for argument, after in zip(arguments, following, strict=True)
        if (match := _FLAG.match(argument))
    ]
    return [read_configuration(Path(value)) for value in values if _is_file(value)]


def read_configuration(path: Path) -> Mapping[str, Any]:
    """A file's settings.

    Raises:
        ConfigurationError: if it cannot be read, naming the line.
    """
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is no configuration: it is not text in UTF-8") from error
    except YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML{_where(error)}") from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{path} holds no settings: write them as in `model: {{loss: mse}}`")
    return content


def _is_file(value: str) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, ValueError):  # the settings themselves, too long for a name
        return False


def _where(error: YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    place = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
    return f"{place}: {problem or 'it holds characters that YAML does not allow'}"
