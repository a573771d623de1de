"""What `--help` prints: settings with their meaning, type and default, and components by name."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Iterator
from inspect import cleandoc
from typing import Any

from torchplug.component import Family, Spec
from torchplug.description import describe, read_docstring
from torchplug.errors import ConfigurationError
from torchplug.parameters import plain, type_name
from torchplug.recipe.lightning_classes import print_class_help
from torchplug.recipe.model_settings import COMPONENTS, MODEL, SLOTS, known_names, option
from torchplug.recipe.settings import (
    GROUPS,
    LIGHTNING_CLASSES,
    SUBCOMMANDS,
    Settings,
    parameters_of,
    signature_of,
    top_level,
)
from torchplug.registry import registry
from torchplug.terminal import printable

BY_THE_DATA = "by the data"
"""The default of settings that follow from the table, which `--help` does not read."""

_CONFIG = ("-c, --config FILE", "Configuration file, YAML or JSON.")
_PRINT = ("--print_config", "Print all settings as a configuration file; --print_config=skip_default: what differs.")
_TITLES = {"data": "The table", "trainer": "Lightning's Trainer", "tracking": "Weights & Biases"}
_OTHERS = {
    "seed_everything": "Seed of all generators.",
    "output": "File to write, .csv or .parquet; its column `row` counts the input's rows from 1.",
    "id": "Column of the input to repeat in the output.",
}


def overview(program: str) -> str:
    """The help of a recipe: its subcommands."""
    lines = [f"usage: {program} [--config FILE] [subcommand] [--name value ...]", "", _COMPONENTS_HINT, ""]
    width = max(map(len, SUBCOMMANDS))
    lines += [f"  {name:{width}} {summary}" for name, summary in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", f"Without a subcommand: fit. {program} fit --help lists its settings."])


_COMPONENTS_HINT = (
    "Components go by their names: `torchplug list` shows them, --model.optimizer.help adam explains one."
)


def help_of(program: str, subcommand: str, settings: Settings, adapted: Collection[str]) -> str:
    """The help of a subcommand: every setting.

    Args:
        program: the recipe's file.
        subcommand: fit, validate, test or predict.
        settings: the recipe's, whose values are the defaults.
        adapted: the settings that follow from the table.
    """
    environment = f"TORCHPLUG_{subcommand.upper()}__A__B in the environment sets --a.b."
    blocks = [
        f"usage: {program} {subcommand} [--config FILE] [--name value ...]",
        SUBCOMMANDS[subcommand],
        "Files come before variables, and variables before flags. " + environment,
        _listed("Options", [_CONFIG, _PRINT, *_other_entries(subcommand, settings)]),
        _listed(f"Components. {_COMPONENTS_HINT}", _model_entries(settings, adapted)),
    ]
    for group, title in _TITLES.items():
        blocks.append(_listed(title, _group_entries(group, settings, adapted)))
    return printable("\n\n".join(blocks), lines=True)


def print_help_of(path: tuple[str, ...], name: str | None) -> None:
    """Print what a component or one of Lightning's classes is, and its parameters.

    Args:
        path: the setting, such as ("model", "optimizer").
        name: which one; None: the names that there are.

    Raises:
        ConfigurationError: for what does not exist.
    """
    flag = ".".join(path)
    if path[0] == "trainer" and len(path) == 2 and path[1] in LIGHTNING_CLASSES:
        print_class_help(path[1], name)
    if path[0] != MODEL or len(path) < 2 or path[1] not in SLOTS:
        raise ConfigurationError(f"unknown flag --{flag}.help; components have help, as --model.optimizer.help adam")
    family = SLOTS[path[1]].family
    print(printable(_names(family) if name is None else _component(family, name, flag), lines=True))


def _names(family: Family) -> str:
    entries = registry().entries(family)
    return "\n".join(f"{registry().shortest_name(entry):24} {entry.component.summary}" for entry in entries)


def _component(family: Family, name: str, flag: str) -> str:
    try:
        about = describe(registry(), registry().find(family, name))
    except ConfigurationError as error:
        raise type(error)(f"--{flag}: {error}") from error
    entries = [
        (
            f"--{flag}.{parameter['name']}",
            _text(
                parameter["description"],
                parameter["type"],
                "required" if parameter["required"] else _shown(parameter["default"]),
            ),
        )
        for parameter in about["parameters"]
    ]
    formula = textwrap.indent(about["formula"], "    ")
    parts = [f"--{flag} {name}", about["description"] or about["summary"], formula, _listed("Parameters", entries)]
    return "\n\n".join(part for part in parts if part)


def _other_entries(subcommand: str, settings: Settings) -> Iterator[tuple[str, str]]:
    resumes = subcommand == "fit"
    checkpoint = f"{'Resume from' if resumes else 'Use'} best or last of the newest run, a run directory, or a file."
    texts = {**_OTHERS, "ckpt_path": checkpoint}
    for name, known in top_level(subcommand).items():
        default = settings.seed if name == "seed_everything" else known.default
        yield f"--{name}", _text(texts[name], type_name(known.annotation), _shown(default))


def _model_entries(settings: Settings, adapted: Collection[str]) -> Iterator[tuple[str, str]]:
    for name in COMPONENTS:
        is_adapted = f"{MODEL}.{name}" in adapted
        if name in SLOTS:
            default = BY_THE_DATA if is_adapted else _shown(settings.model.get(name, [] if SLOTS[name].many else None))
            known = known_names(SLOTS[name].family)
            yield f"--{MODEL}.{name}", f"{SLOTS[name].summary} (default: {default}, known: {known})"
        else:
            parameter, summary = option(name)
            default = BY_THE_DATA if is_adapted else _shown(settings.model.get(name, parameter.default))
            yield f"--{MODEL}.{name}", _text(summary, type_name(parameter.annotation), default)


def _group_entries(group: str, settings: Settings, adapted: Collection[str]) -> Iterator[tuple[str, str]]:
    owner = GROUPS[group]
    documented = read_docstring(owner.__doc__).arguments or read_docstring(cleandoc(owner.__init__.__doc__)).arguments
    defaults = settings.group(group)
    for name in signature_of(group):
        known = parameters_of(group).get(name)
        kind = "classes of Lightning" if known is None else type_name(known.annotation)
        default = BY_THE_DATA if f"{group}.{name}" in adapted else _shown(defaults[name])
        yield f"--{group}.{name}", _text(documented.get(name, ""), kind, default)


def _text(description: str, kind: str, default: str) -> str:
    return f"{description} (type: {kind.replace('None', 'null')}, default: {default})".strip()


def _shown(value: Any) -> str:
    """A default, as it would be written on the command line."""
    if isinstance(value, list) and any(isinstance(item, Spec) for item in value):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Spec):
        parameters = ", ".join(f"{key}={_shown(item)}" for key, item in value.parameters.items())
        return f"{value.name}({parameters})" if parameters else value.name
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(plain(value))


def _listed(title: str, entries: Iterable[tuple[str, str]]) -> str:
    lines = [f"{title}:"]
    for flag, text in entries:
        lines.append(f"  {flag}")
        lines.append(textwrap.fill(" ".join(text.split()), 100, initial_indent=" " * 8, subsequent_indent=" " * 8))
    return "\n".join(lines)
