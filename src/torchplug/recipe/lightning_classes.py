"""Lightning's classes as settings of the trainer, such as callbacks: jsonargparse checks them and builds them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import yaml  # type: ignore[import-untyped]
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer

from torchplug.bounded_yaml import load, refuse_unbounded
from torchplug.errors import ConfigurationError
from torchplug.fitting.trainer import NOT_SETTABLE
from torchplug.parameters import settable_parameters
from torchplug.recipe.settings import LIGHTNING_CLASSES, near, read_value, signature_of
from torchplug.recipe.sources import Given

_WORD = re.compile(r"[a-z0-9_]+")
"""What Lightning takes by its own names, such as `ddp`; class names have capital letters."""

_TAKES_WORDS = ("accelerator", "strategy", "profiler")
_MODULES = {
    "accelerator": "accelerators",
    "strategy": "strategies",
    "callbacks": "callbacks",
    "profiler": "profilers",
    "plugins": "plugins",
}
"""Where in lightning.pytorch the classes of a setting are."""


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
        named = {name: _checked(name, value) for name, value in values.items() if _names_class(name, value)}
        self._parsed: Any = None
        if named:
            self._parser = _parser(named)
            self._parsed = _parsed(self._parser.parse_object, {"trainer": named})
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


def print_class_help(name: str, class_name: str | None) -> None:
    """Print the parameters of one of Lightning's classes, and end the program.

    Raises:
        ConfigurationError: for a class that does not exist.
    """
    _parsed(_parser([name]).parse_args, [f"--trainer.{name}.help", *([class_name] if class_name else [])])


def _parsed(parse: Callable[[Any], Any], settings: Any) -> Any:
    from jsonargparse import ArgumentError

    try:
        return parse(settings)
    except ArgumentError as error:
        last = str(error).strip().splitlines()[-1].strip(" -")
        where = re.search(r'Parser key "([^"]+)"', str(error))
        raise ConfigurationError(f"--{where[1]}: {last}" if where else last) from error


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


def _checked(name: str, value: Any) -> Any:
    """A setting with its classes found, and their parameters as their types."""
    where = f"--trainer.{name}"
    if isinstance(value, list):
        return [_checked(name, item) for item in value]
    spec = value if isinstance(value, Mapping) else {"class_path": value}
    path, found = _class(name, spec.get("class_path"))
    signature, typed = inspect.signature(found).parameters, _plain_parameters(found)
    parameters = {}
    for key, item in (spec.get("init_args") or {}).items():
        if key not in signature and inspect.Parameter.VAR_KEYWORD not in {known.kind for known in signature.values()}:
            raise ConfigurationError(f"{where}: {found.__name__} has no parameter {key!r}; {near(key, signature)}")
        given = Given(("trainer", name, key), item, f"{where}.{key}")
        parameters[key] = read_value(typed[key].annotation, given) if key in typed else item
        if isinstance(item, str):  # which jsonargparse reads as YAML
            with suppress(yaml.YAMLError):
                refuse_unbounded(item)
    missing = [key for key, known in typed.items() if known.default is known.empty and key not in parameters]
    if missing:
        raise ConfigurationError(f"{where}: {found.__name__} needs {', '.join(missing)}")
    return {"class_path": path, "init_args": parameters}


def _class(name: str, path: Any) -> tuple[str, type]:
    """One of Lightning's classes by its name or path, and its path."""
    if "." in str(path) and not str(path).startswith("lightning."):
        raise ConfigurationError(f"--trainer.{name}: {path} is refused: settings name classes of lightning")
    module, _, short = (str(path) if "." in str(path) else f"lightning.pytorch.{_MODULES[name]}.{path}").rpartition(".")
    try:
        found = getattr(import_module(module), short)
    except (ImportError, AttributeError):
        found = None
    if not inspect.isclass(found):
        raise ConfigurationError(f"--trainer.{name}: unknown class {str(path)!r}")
    return f"{module}.{short}", found


def _plain_parameters(found: type) -> Mapping[str, inspect.Parameter]:
    try:
        return settable_parameters(found)
    except ValueError:  # it needs an object: what is missing is found when it is built
        return {}
