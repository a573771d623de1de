"""What `--help` prints: settings with their meaning, type and default, and components by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from inspect import Parameter
from typing import Any

from torchplug.errors import ConfigurationError
from torchplug.recipe.lightning_classes import MODULES, LightningClass, known_classes
from torchplug.recipe.settings import Settings
from torchplug.recipe.subcommands import SUBCOMMANDS, options_of
from torchplug.registry import registry
from torchplug.registry.component import Family, Spec
from torchplug.registry.docstrings import describe, page, parameter_text, read_docstring
from torchplug.registry.signatures import plain, type_name
from torchplug.settings.groups import GROUPS, parameters_of
from torchplug.settings.model import MODEL, OPTIONS, SLOTS, known_names
from torchplug.terminal import printable

BY_THE_DATA = "by the data"
"""The default of settings that follow from the table, which `--help` does not read."""

_PROGRAM = """\
    --config FILE, -c FILE
        Configuration file, YAML or JSON.
    --print_config
        Print all settings as a configuration file; --print_config=skip_default: what differs."""
_COMPONENTS = "Components (`torchplug list` shows them, --model.optimizer.help adam explains one):"
_TITLES = {"data": "The table", "trainer": "Lightning's Trainer", "tracking": "Weights & Biases"}


def overview(program: str) -> str:
    """The help of a recipe: its subcommands."""
    lines = [f"usage: {program} [--config FILE] [subcommand] [--name value ...]", "", "Subcommands:"]
    width = max(map(len, SUBCOMMANDS))
    lines += [f"  {name:{width}} {about.summary}" for name, about in SUBCOMMANDS.items()]
    return "\n".join([*lines, "", f"Without a subcommand: fit. {program} fit --help lists its settings."])


def help_of(program: str, subcommand: str, settings: Settings, adapted: Collection[str]) -> str:
    """The help of a subcommand: every setting.

    Args:
        program: the recipe's file.
        subcommand: what to do, such as fit.
        settings: the recipe's, whose values are the defaults.
        adapted: the settings that follow from the table.
    """
    about = SUBCOMMANDS[subcommand]
    words = "" if about.words is None else f" [{about.words.upper()} ...]"
    blocks = [
        f"usage: {program} {subcommand}{words} [--config FILE] [--name value ...]",
        about.summary,
        f"Files come before variables of the environment (TORCHPLUG_{subcommand.upper()}__A__B sets --a.b), "
        "and these before flags.",
        "\n".join(["Options:", _PROGRAM, *_others(subcommand, settings)]),
        "\n".join([_COMPONENTS, *_model(settings, adapted)]),
    ]
    blocks += [
        "\n".join([f"{title}:", *_entries(group, GROUPS[group], parameters_of(group), settings.group(group), adapted)])
        for group, title in _TITLES.items()
    ]
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
    if path[0] == "trainer" and path[-1] in MODULES:
        print(printable(_lightning_class(path[-1], name), lines=True))
        return
    if path[0] != MODEL or len(path) < 2 or path[1] not in SLOTS:
        raise ConfigurationError(f"unknown flag --{flag}.help; components have help, as --model.optimizer.help adam")
    family = SLOTS[path[1]].family
    print(printable(_names(family) if name is None else _component(family, name, flag), lines=True))


def _names(family: Family) -> str:
    entries = registry().entries(family)
    return "\n".join(f"{registry().shortest_name(entry):24} {entry.component.summary}" for entry in entries)


def _component(family: Family, name: str, flag: str) -> str:
    try:
        return page(describe(registry(), registry().find(family, name)), prefix=f"--{flag}.")
    except ConfigurationError as error:
        raise type(error)(f"--{flag}: {error}") from error


def _lightning_class(setting: str, name: str | None) -> str:
    if name is None:
        return "\n".join(known_classes(setting))
    found = LightningClass.find(setting, name)
    defaults = {
        key: "required" if known.default is known.empty else known.default for key, known in found.parameters().items()
    }
    about = read_docstring(found.itself.__doc__).text
    return "\n".join(
        [found.path, "", about, "", *_entries(f"trainer.{setting}", found.itself, found.parameters(), defaults)]
    )


def _others(subcommand: str, settings: Settings) -> Iterator[str]:
    for name, option in options_of(subcommand).items():
        default = settings.seed if name == "seed_everything" else option.default
        yield _entry(name, option.annotation, default, option.summary)


def _model(settings: Settings, adapted: Collection[str]) -> Iterator[str]:
    for name, slot in SLOTS.items():
        default = settings.model.get(name, [] if slot.many else None)
        text = f"{slot.summary}. Known: {known_names(slot.family)}"
        yield _entry(f"{MODEL}.{name}", slot.family.value, default, text, adapted)
    for name, (annotation, default, summary) in OPTIONS.items():
        yield _entry(f"{MODEL}.{name}", annotation, settings.model.get(name, default), summary, adapted)


def _entries(
    prefix: str,
    owner: Any,
    parameters: Mapping[str, Parameter],
    defaults: Mapping[str, Any],
    adapted: Collection[str] = (),
) -> Iterator[str]:
    documented = read_docstring(owner.__doc__).arguments | read_docstring(owner.__init__.__doc__).arguments
    for name, default in defaults.items():
        kind = parameters[name].annotation if name in parameters else "classes of Lightning"
        yield _entry(f"{prefix}.{name}", kind, default, documented.get(name, ""), adapted)


def _entry(name: str, kind: Any, default: Any, text: str, adapted: Collection[str] = ()) -> str:
    kind = kind if isinstance(kind, str) else type_name(kind).replace("None", "null")
    shown = BY_THE_DATA if name in adapted else _shown(default)
    return parameter_text(f"--{name}", kind, shown, " ".join(text.split()))


def _shown(value: Any) -> str:
    """A default, as it would be written on the command line."""
    if isinstance(value, list) and any(isinstance(item, Spec) for item in value):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Spec):
        parameters = ", ".join(f"{key}={_shown(item)}" for key, item in value.parameters.items())
        return f"{value.name}({parameters})" if parameters else value.name
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(plain(value))
