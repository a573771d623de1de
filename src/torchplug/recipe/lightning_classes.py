"""Lightning's classes as settings of the trainer, such as callbacks: found, checked, and built by jsonargparse."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from typing import Any, get_args

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from yaml import YAMLError  # type: ignore[import-untyped]

from torchplug.bounded_yaml import refuse_unbounded
from torchplug.errors import ConfigurationError
from torchplug.registry.signatures import settable_parameters
from torchplug.settings.given import Given, structure
from torchplug.settings.groups import near, read_value, signature_of

MODULES = {
    "accelerator": "accelerators",
    "strategy": "strategies",
    "callbacks": "callbacks",
    "profiler": "profilers",
    "plugins": "plugins",
}
"""The settings that may name Lightning's classes, and where in lightning.pytorch these are."""

_WORD = re.compile(r"[a-z0-9_]+")
"""What Lightning takes by its own names, such as `ddp`; class names have capital letters."""

_TAKES_WORDS = ("accelerator", "strategy", "profiler")


@dataclass(frozen=True)
class LightningClass:
    """One of Lightning's classes.

    Args:
        path: where it is, as settings have it.
        itself: the class.
    """

    path: str
    itself: type

    @classmethod
    def find(cls, setting: str, name: Any) -> LightningClass:
        """The class of a name or a path.

        Args:
            setting: the trainer's, such as callbacks.
            name: the class's name, or where it is.

        Raises:
            ConfigurationError: if it is none that the setting takes.
        """
        where, name = f"--trainer.{setting}", str(name)
        if "." in name and not name.startswith("lightning."):
            raise ConfigurationError(f"{where}: {name} is refused: settings name classes of lightning")
        path = name if "." in name else f"lightning.pytorch.{MODULES[setting]}.{name}"
        module, _, short = path.rpartition(".")
        try:
            found = getattr(import_module(module), short)
        except (ImportError, AttributeError, ValueError):
            found = None
        if not (inspect.isclass(found) and issubclass(found, tuple(_bases(setting)))):
            raise ConfigurationError(f"{where}: unknown class {name!r}; {near(short, known_classes(setting))}")
        return cls(path, found)

    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters with plain values."""
        try:
            return settable_parameters(self.itself)
        except ValueError:  # it needs an object: what is missing is found when it is built
            return {}

    def checked(self, setting: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters as their types, with the defaults of the others that are plain.

        Raises:
            ConfigurationError: for parameters that do not exist, do not fit or are missing.
        """
        where, short = f"--trainer.{setting}", self.itself.__name__
        signature, typed = inspect.signature(self.itself).parameters, self.parameters()
        values = {name: known.default for name, known in typed.items() if type(known.default) in _PLAIN}
        for name, value in given.items():
            if name not in signature and not any(known.kind is known.VAR_KEYWORD for known in signature.values()):
                raise ConfigurationError(f"{where}: {short} has no parameter {name!r}; {near(name, signature)}")
            if isinstance(value, str):  # which jsonargparse reads as YAML
                with suppress(YAMLError):
                    refuse_unbounded(value)
            item = Given(("trainer", setting, name), value, f"{where}.{name}")
            values[name] = read_value(typed[name].annotation, item) if name in typed else value
        missing = [name for name, known in typed.items() if known.default is known.empty and name not in values]
        if missing:
            raise ConfigurationError(f"{where}: {short} needs {', '.join(missing)}")
        return values


_PLAIN = (type(None), bool, int, float, str, list)


def known_classes(setting: str) -> list[str]:
    """The names of the classes that a setting of the trainer takes."""
    module = import_module(f"lightning.pytorch.{MODULES[setting]}")
    bases = tuple(_bases(setting))
    return sorted(name for name, item in vars(module).items() if inspect.isclass(item) and issubclass(item, bases))


def read_classes(defaults: Mapping[str, Any], givens: Iterable[Given]) -> dict[str, Any]:
    """The settings of the trainer that may name classes: plain values, or mappings with class_path and init_args.

    Args:
        defaults: the trainer's settings before.
        givens: what was given for `trainer`, later ones counting more.

    Raises:
        ConfigurationError: for classes that do not exist or are not Lightning's, and parameters that do not fit.
    """
    values = {name: defaults[name] for name in MODULES}
    for given in givens:
        name, *path = given.path[1:]
        if name in MODULES:
            values[name] = _changed(values[name], path, given)
    return {name: _checked(name, value) if _names_class(name, value) else value for name, value in values.items()}


def build_classes(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with objects in the place of classes.

    Raises:
        ConfigurationError: for what such a class refuses.
    """
    # Copies: jsonargparse changes what it is given.
    named = {name: deepcopy(value) for name, value in values.items() if _names_class(name, value)}
    if not named:
        return dict(values)
    import jsonargparse

    # A setting can name Lightning's classes and nothing else: any other path is refused before it is imported.
    jsonargparse.set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["lightning"])
    parser = jsonargparse.ArgumentParser(exit_on_error=False, default_env=False)
    others = set(inspect.signature(Trainer).parameters) - set(named)
    parser.add_class_arguments(Trainer, "trainer", fail_untyped=False, instantiate=False, skip=others)
    try:
        return {**values, **vars(parser.instantiate(parser.parse_object({"trainer": named})).trainer)}
    except jsonargparse.ArgumentError as error:
        keys = ".".join(re.findall(r'Parser key "([^"]+)"', str(error)))
        reason = re.search(r"Not of type.*|Importing '[^']+' is not allowed", str(error))
        raise ConfigurationError(f"--{keys}: {reason[0] if reason else 'not what the class takes'}") from error
    except (MisconfigurationException, ValueError, TypeError) as error:
        cause: BaseException = error
        while isinstance(cause.__cause__, Exception):  # the parser wraps what the class itself said
            cause = cause.__cause__
        raise ConfigurationError(f"--trainer: {' '.join(str(cause).split())}") from error


def _bases(setting: str) -> Iterator[type]:
    """Yield the base classes that a setting of the trainer takes."""
    nested = [signature_of("trainer")[setting].annotation]
    while nested:
        annotation = nested.pop()
        nested += get_args(annotation)
        if inspect.isclass(annotation) and annotation.__module__.startswith("lightning."):
            yield annotation


def _changed(value: Any, path: list[str], given: Given) -> Any:
    """A setting after one that was given: another class, one more, or a parameter of the last."""
    if not path:
        new = structure(given)
        if not given.appends:
            return new
        there = value if isinstance(value, list) else [] if value is None else [value]
        return [*there, *(new if isinstance(new, list) else [new])]
    last = value[-1] if isinstance(value, list) and value else value
    if not last or not _names_class(given.path[1], last):
        raise ConfigurationError(f"{given.where}: name the class first, as in --trainer.{given.path[1]} NAME")
    last = last if isinstance(last, Mapping) else {"class_path": last}
    changed = {**last, "init_args": {**(last.get("init_args") or {}), ".".join(path): given.value}}
    return [*value[:-1], changed] if isinstance(value, list) else changed


def _names_class(name: str, value: Any) -> bool:
    if isinstance(value, str):
        return name not in _TAKES_WORDS or not _WORD.fullmatch(value)
    return value is not None and value != []


def _checked(setting: str, value: Any) -> Any:
    """A setting with its classes found, and their parameters checked."""
    if isinstance(value, list):
        return [_checked(setting, item) for item in value]
    spec = value if isinstance(value, Mapping) else {"class_path": value}
    if "class_path" not in spec or not isinstance(spec.get("init_args") or {}, Mapping):
        raise ConfigurationError(f"--trainer.{setting}: expected a class's name, or class_path with init_args")
    found = LightningClass.find(setting, spec["class_path"])
    return {"class_path": found.path, "init_args": found.checked(setting, spec.get("init_args") or {})}
