"""Where settings come from: configuration files, then the environment, then the command line's flags."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yaml import YAMLError  # type: ignore[import-untyped]

from torchplug.bounded_yaml import UnboundedError, load, read_yaml
from torchplug.errors import ConfigurationError
from torchplug.recipe.environment import PREFIX, refuse_unknown
from torchplug.recipe.lightning_classes import MODULES
from torchplug.recipe.settings import top_level
from torchplug.recipe.subcommands import SUBCOMMANDS, Subcommand, options_of
from torchplug.registry.installed import advertisers
from torchplug.settings.given import Given
from torchplug.settings.groups import GROUPS, near, read_group, signature_of
from torchplug.settings.model import COMPONENTS, MODEL, SLOTS

_BARE = re.compile(r"(?!\d)\w+(?:\.\w+)*\+?=")
"""A setting without dashes, as `${args_no_hyphens}` gives it."""

_CONFIG = ("-c", "--config")
_HELP = ("-h", "--help")
_Unit = tuple[str, str | None]
"""A flag with its value; or a word, whose flag is empty."""


@dataclass(frozen=True)
class CommandLine:
    """A command line, taken apart, with what files and variables add to it.

    Args:
        subcommand: what to do, such as fit.
        givens: all settings, later ones counting more.
        flags: the names of the settings that the command line itself gives.
        asks_help: whether to print the help of the subcommand, or of all where `subcommand` is empty.
        print_config: whether to print the settings: None, or the options of the flag.
        help_of: the class or component that `--model.optimizer.help adam` asks about, with the path of its setting.
        arguments: the command line as it was given.
    """

    subcommand: str
    givens: tuple[Given, ...] = ()
    flags: frozenset[str] = frozenset()
    asks_help: bool = False
    print_config: str | None = None
    help_of: tuple[tuple[str, ...], str | None] | None = None
    arguments: tuple[str, ...] = ()

    def of(self, *path: str) -> list[Given]:
        """The settings whose name begins so."""
        return [given for given in self.givens if given.path[: len(path)] == path]


def gather(arguments: Sequence[str]) -> CommandLine:
    """Take a command line apart, and read the files and variables that belong to it.

    Besides flags there may be `model.optimizer.lr=0.1`; a JSON object of settings; or a file `*.json` that holds one,
    as `${args_no_hyphens}`, `${args_json}` and `${args_json_file}` of a W&B sweep give them.

    Raises:
        ConfigurationError: for unknown flags, variables and settings of files, and files that cannot be read.
    """
    if list(arguments[:1]) in ([flag] for flag in _HELP):
        return CommandLine("", asks_help=True)
    units = list(_units(arguments))
    start = next((i for i, (flag, _) in enumerate(units) if flag not in _CONFIG), len(units))
    general: list[str | None] = []
    subcommand = "fit"
    word = str(units[start][1]) if start < len(units) and not units[start][0] else ""
    if word and not (_BARE.match(word) or word.startswith("{") or word.endswith(".json")):
        subcommand = word
        if subcommand not in SUBCOMMANDS:
            raise ConfigurationError(f"invalid choice: {subcommand!r}; subcommands are {', '.join(SUBCOMMANDS)}")
        general, units = [value for _, value in units[:start]], units[start + 1 :]
    known = names_of(subcommand)
    # Plugins are not loaded yet: they may be refused by their lock.
    refuse_unknown({name: [*names_of(name), "config"] for name in SUBCOMMANDS}, advertisers())
    flags, files, special = _sorted_out(units, known, SUBCOMMANDS[subcommand])
    asks_help = bool(special.keys() & set(_HELP))
    helps = [(tuple(name[2:].split(".")[:-1]), value) for name, value in special.items() if _asks_help_of(name)]
    given = [
        *_files(subcommand, general, files, known),
        *_in_order(_variables(subcommand, known)),
        *_in_order(flags),
    ]
    return CommandLine(
        subcommand,
        tuple(given),
        frozenset(".".join(flag.path) for flag in flags),
        asks_help,
        special.get("--print_config"),
        helps[0] if helps else None,
        tuple(arguments),
    )


def option(line: CommandLine, name: str) -> Any:
    """One setting outside of groups, before all others are read.

    Raises:
        ConfigurationError: if the value does not fit.
    """
    known = top_level(line.subcommand)
    return read_group(known, {name: known[name].default}, line.of(name))[name]


def names_of(subcommand: str) -> list[str]:
    """The settings that a subcommand takes, such as `trainer.max_epochs`."""
    grouped = [f"{group}.{name}" for group in GROUPS for name in signature_of(group)]
    return [*top_level(subcommand), MODEL, *(f"{MODEL}.{name}" for name in COMPONENTS), *GROUPS, *grouped]


def _units(arguments: Sequence[str]) -> Iterator[_Unit]:
    """Yield each flag with its value, and each word by itself."""
    remaining = list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not _is_flag(argument):
            yield "", argument
            continue
        flag, equals, value = argument.partition("=")
        if equals:
            yield flag, value
        elif flag not in (*_HELP, "--print_config") and remaining and not _is_flag(remaining[0]):
            yield flag, remaining.pop(0)
        else:
            yield flag, None


def _is_flag(argument: str) -> bool:
    return argument.startswith("-") and argument != "-" and not re.match(r"-[\d.]", argument)


def _sorted_out(
    units: Iterable[_Unit], known: Sequence[str], subcommand: Subcommand
) -> tuple[list[Given], list[str], dict[str, str | None]]:
    """The settings, the configuration files, and the flags that ask for something to be printed.

    Args:
        units: flags with values, and words.
        known: the settings that the subcommand takes.
        subcommand: may collect words, and take some flags several times.
    """
    flags: list[Given] = []
    files: list[str] = []
    special: dict[str, str | None] = {}
    for flag, value in units:
        if not flag:
            flags += _word(str(value), known, subcommand.words)
        elif flag in _HELP or flag == "--print_config" or _asks_help_of(flag):
            special[flag] = value if value is not None or _asks_help_of(flag) else ""
        elif flag in _CONFIG:
            files.append(_required(flag, value))
        elif (name := _option(flag)) in subcommand.options and subcommand.options[name].repeats:
            flags.append(Given((name,), [_required(flag, value)], flag, appends=True))
        elif value is None and name in subcommand.options and subcommand.options[name].annotation is bool:
            flags.append(Given((name,), True, flag))
        else:
            flags += _known_flag(flag, value, known)
    return flags, files, special


def _word(word: str, known: Sequence[str], words: str | None) -> Iterator[Given]:
    """Yield the settings of a word that is no flag."""
    if words is not None and not (word.startswith("{") or _BARE.match(word)):
        yield Given((words,), [word], word, appends=True)
    elif _BARE.match(word):
        name, _, value = word.partition("=")
        yield from _known_flag(f"--{name}", value, known)
    elif word.startswith("{") or word.endswith(".json"):
        where, content = _file("the argument", word)
        yield from _inside(content, (), where, known)
    else:
        raise ConfigurationError(f"unknown argument {word!r}; settings are given as --name value")


def _option(flag: str) -> str:
    """A flag's setting; outside of groups it may be written with hyphens."""
    name = flag.rstrip("+").removeprefix("--")
    return name if "." in name else name.replace("-", "_")


def _known_flag(flag: str, value: str | None, known: Sequence[str]) -> Iterator[Given]:
    name = _option(flag)
    path = tuple(name.split("."))
    if not flag.startswith("--") or not _is_known(path, known):
        raise ConfigurationError(f"unknown flag {flag}; {near(f'--{name}', [f'--{one}' for one in known], 3)}")
    yield from _expanded(path, _required(flag, value), f"--{name}", known, flag.endswith("+"))


def _required(flag: str, value: str | None) -> str:
    if value is None:
        raise ConfigurationError(f"{flag}: expected one argument")
    return value


def _is_known(path: Sequence[str], known: Iterable[str]) -> bool:
    grouped = path[0] in (MODEL, *GROUPS)
    return ".".join(path[:2] if grouped else path) in known


def _is_group(path: Sequence[str]) -> bool:
    return len(path) == 1 and path[0] in (MODEL, *GROUPS)


def _expanded(
    path: tuple[str, ...], value: Any, where: str, known: Sequence[str], appends: bool = False
) -> Iterator[Given]:
    """Yield a setting, or those of a whole group."""
    if _is_group(path):
        name, content = _file(where, value)
        yield from _inside(content, path, name, known)
        return
    if path[0] == MODEL or (path[1:2] and path[1] in MODULES):
        path = _without_keys(path)
    yield Given(path, value, where, appends)


def _without_keys(path: tuple[str, ...]) -> tuple[str, ...]:
    """A path without the keys class_path and init_args; after init_args any name is that of a parameter."""
    kept: list[str] = []
    after_key = False
    for part in path:
        after_key = part in ("init_args", "class_path") and not after_key
        kept += [] if after_key else [part]
    return tuple(kept)


def _asks_help_of(flag: str) -> bool:
    """Whether a flag asks for help about a component; `--model.loss.init_args.help` sets its parameter `help`."""
    return flag.endswith(".help") and not flag.endswith(".init_args.help")


def _inside(content: Mapping[str, Any], path: tuple[str, ...], where: str, known: Sequence[str]) -> Iterator[Given]:
    for key, value in content.items():
        inner = (*path, *str(key).rstrip("+").split("."))
        name = ".".join(inner)
        if not _is_known(inner, known):
            owners = [subcommand for subcommand in SUBCOMMANDS if name in options_of(subcommand)]
            if owners:
                raise ConfigurationError(
                    f"{where}: {name} is a setting of {', '.join(owners)}: leave it out of the file"
                )
            raise ConfigurationError(f"{where}: unknown setting {name}; {near(name, known)}")
        if _is_group(inner) and isinstance(value, Mapping):
            yield from _inside(value, inner, where, known)
        else:
            yield from _expanded(inner, value, f"{where}: {name}", known, str(key).endswith("+"))


def _in_order(givens: Iterable[Given]) -> list[Given]:
    """Put components before their parameters: naming one resets them. What is added to a list stays in its place.

    Settings of a component with a number come after the list, and those of patterns of parameter names in their order.
    """

    def depth(given: Given) -> int:
        if given.path[:2] == (MODEL, "groups"):
            return min(len(given.path), 3)
        is_single = given.path[0] == MODEL and not (given.path[1] in SLOTS and SLOTS[given.path[1]].many)
        return len(given.path) if is_single or (given.path[2:3] and given.path[2].isdecimal()) else 0

    return sorted(givens, key=depth)


def _variables(subcommand: str, known: Sequence[str]) -> Iterator[Given]:
    for name in known:
        variable = f"{PREFIX}{subcommand}__{name.replace('.', '__')}".upper()
        if variable in os.environ:
            yield from _expanded(tuple(name.split(".")), os.environ[variable], variable, known)


def _files(
    subcommand: str, general: Sequence[str | None], specific: Sequence[str], known: Sequence[str]
) -> Iterator[Given]:
    """Yield the settings of configuration files: first of those for all subcommands, then of those for this one."""
    variables = [os.environ.get(f"{PREFIX}{name}CONFIG") for name in ("", f"{subcommand.upper()}__")]
    for value in filter(None, [variables[0], *(_required("--config", value) for value in general)]):
        name, content = _file("--config", value)
        if (stray := next((key for key in content if key not in (*SUBCOMMANDS, "subcommand")), None)) is not None:
            raise ConfigurationError(
                f"{name} holds {stray}, which is a setting of a subcommand: give it after the subcommand "
                f"({subcommand} --config FILE), or put its content under `{subcommand}:`"
            )
        section = content.get(subcommand) or {}
        if not isinstance(section, Mapping):
            raise ConfigurationError(f"{name}: {subcommand}: expected settings, got {section}")
        yield from _in_order(_inside(section, (), name, known))
    for value in filter(None, [variables[1], *specific]):
        name, content = _file("--config", value)
        if (stray := next((key for key in content if key in SUBCOMMANDS), None)) is not None:
            raise ConfigurationError(
                f"{name} holds settings under `{stray}:`: give it before the subcommand (--config FILE {subcommand})"
            )
        yield from _in_order(_inside(content, (), name, known))


def _file(where: str, text: Any) -> tuple[str, Mapping[str, Any]]:
    """The settings of a file, or of a text that holds them itself, and how errors name it."""
    if not isinstance(text, str):
        raise ConfigurationError(f"{where}: expected settings, got {text}")
    if os.path.lexists(text):
        return text, read_yaml(text)
    if not text.lstrip().startswith("{"):
        raise ConfigurationError(f"{where}: File does not exist: {text}")
    try:
        content = load(text)
    except UnboundedError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    except YAMLError as error:
        raise ConfigurationError(f"{where}: neither a file nor valid YAML") from error
    if not isinstance(content, Mapping):
        raise ConfigurationError(f"{where}: it holds no settings: write them as in `{{loss: mse}}`")
    return where, content
