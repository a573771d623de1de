"""Lightning's classes as settings of the trainer, such as callbacks: jsonargparse checks them and builds them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from torchplug.bounded_yaml import load, refuse_unbounded
from torchplug.errors import ConfigurationError
from torchplug.fitting.trainer import NOT_SETTABLE
from torchplug.recipe.settings import LIGHTNING_CLASSES, signature_of
from torchplug.recipe.sources import Given

_WORD = re.compile(r"[a-z0-9_]+")
"""What Lightning takes by its own names, such as `ddp`; class names have capital letters."""

_TAKES_WORDS = ("accelerator", "strategy", "profiler")


class LightningClasses:
    """Settings of the trainer that name Lightning's classes.

    Args:
        defaults: the trainer's settings before.
        givens: what was given for `trainer`, later ones counting more.

    Raises:
        ConfigurationError: for classes that do not exist or are not Lightning's, and parameters that do not fit.
    """

    def __init__(self, defaults: Mapping[str, Any], givens: Iterable[Given]) -> None:
        values = {name: defaults[name] for name in LIGHTNING_CLASSES}
        for given in givens:
            name, *path = given.path[1:]
            if name in LIGHTNING_CLASSES:
                values[name] = _changed(values[name], path, given)
        named = {name: value for name, value in values.items() if _names_class(name, value)}
        self._parsed: Any = None
        if named:
            for name, value in named.items():
                _refuse_foreign(value, f"--trainer.{name}")
            self._parsed = self._parse(named)
            values |= yaml.safe_load(self._parser.dump(self._parsed, skip_unset=False))["trainer"]
        self.plain = values
        """The settings, every parameter of a class included."""

    def build(self) -> dict[str, Any]:
        """The settings with objects in the place of classes.

        Raises:
            ConfigurationError: for what such a class refuses.
        """
        if self._parsed is None:
            return self.plain
        try:
            return {**self.plain, **vars(self._parser.instantiate(self._parsed).trainer)}
        except (MisconfigurationException, ValueError, TypeError) as error:
            cause: BaseException = error
            while isinstance(cause.__cause__, Exception):  # the parser wraps what the class itself said
                cause = cause.__cause__
            raise ConfigurationError(f"--trainer: {' '.join(str(cause).split())}") from error

    def _parse(self, named: Mapping[str, Any]) -> Any:
        from jsonargparse import ArgumentError

        self._parser = _parser(named)
        try:
            return self._parser.parse_object({"trainer": dict(named)})
        except ArgumentError as error:
            raise ConfigurationError(_one_line(str(error))) from error


def print_class_help(name: str, class_name: str | None) -> None:
    """Print the parameters of one of Lightning's classes, and end the program.

    Raises:
        ConfigurationError: for a class that does not exist.
    """
    from jsonargparse import ArgumentError

    try:
        _parser([name]).parse_args([f"--trainer.{name}.help", *([class_name] if class_name else [])])
    except ArgumentError as error:
        raise ConfigurationError(_one_line(str(error))) from error


def _parser(names: Iterable[str]) -> Any:
    import jsonargparse

    # A setting can name Lightning's classes and nothing else: any other path is refused before it is imported.
    jsonargparse.set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["lightning"])
    parser = jsonargparse.ArgumentParser(exit_on_error=False, default_env=False)
    others = set(signature_of("trainer")) - set(names) | NOT_SETTABLE
    parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, skip=set(others))
    return parser


def _changed(value: Any, path: list[str], given: Given) -> Any:
    """A setting after one that was given: another class, one more, or a parameter of the last."""
    if not path:
        new = _read(given)
        if not given.appends:
            return new
        there = value if isinstance(value, list) else [] if value is None else [value]
        return [*there, *(new if isinstance(new, list) else [new])]
    last = value[-1] if isinstance(value, list) and value else value
    if isinstance(last, str):
        last = {"class_path": last}
    if not isinstance(last, Mapping):
        raise ConfigurationError(f"{given.where}: name the class first, as in --trainer.{given.path[1]} NAME")
    parameters: dict[str, Any] = dict(last.get("init_args") or {})
    parameters[".".join(path)] = given.value
    changed = {**last, "init_args": parameters}
    return [*value[:-1], changed] if isinstance(value, list) else changed


def _read(given: Given) -> Any:
    value = given.value
    if not isinstance(value, str):
        return value
    if value in ("null", "None"):
        return None
    if value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{given.where}: {value} is neither a name nor valid YAML") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{given.where}: {error}") from error


def _names_class(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return name not in _TAKES_WORDS or not _WORD.fullmatch(value)
    return value is not None and value != []


def _refuse_foreign(value: Any, where: str) -> None:
    """Refuse paths that are not Lightning's, and texts that would cost much to read."""
    for text, names_class in _texts(value):
        if names_class and not re.fullmatch(r"[\w.]+", text):
            raise ConfigurationError(f"{where}: unknown class {text!r}")
        if names_class and "." in text and not text.startswith("lightning."):
            raise ConfigurationError(f"{where}: {text} is refused: settings name classes of lightning")
        try:
            refuse_unbounded(text)
        except yaml.YAMLError:
            continue
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error


def _texts(value: Any, names_class: bool = True) -> Iterator[tuple[str, bool]]:
    """Yield every text in a setting, and whether it names a class."""
    if isinstance(value, str):
        yield value, names_class
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, names_class)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, key == "class_path")


def _one_line(message: str) -> str:
    """What jsonargparse refuses in a class, in one line: which flag, what is wrong, what is accepted."""
    keys = dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message))
    where = f"--{'.'.join(keys)}: " if keys else ""
    if refused := re.search(r"Importing '([^']+)' is not allowed", message):
        return f"{where}{refused[1]} is refused: settings name classes of lightning"
    # The first class: others are alternatives.
    if (given := re.search(r"given class_path '(?:[\w.]+\.)?(\w+)'", message)) is None:
        name = re.search(r"Expected a dot import path string: (.*)", message)
        return where + (f"unknown class {name[1]!r}" if name else message.strip().splitlines()[-1].strip(" -"))
    if value := re.search(r"Expected an? (.*?)\.? Got value: (.*)", message):
        return f"{where}{given[1]}: expected {_types(value[1])}, got {value[2]}"
    if required := re.search(r"arguments are required: (.*)", message):
        return f"{where}{given[1]} needs {required[1]}"
    if unknown := re.search(r"Option '([^']+)' is not accepted|[Kk]ey '([^']+)' is not expected", message):
        return f"{where}{given[1]} has no parameter {unknown[1] or unknown[2]!r}"
    return f"{where}{given[1]} cannot be built from these settings"


def _types(text: str) -> str:
    """Type names as people write them."""
    return re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text).replace("typing.", "").replace("NoneType", "null")
