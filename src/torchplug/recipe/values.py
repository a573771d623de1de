"""All settings of a command, resolved: a recipe's own, and over them what was given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug.errors import ConfigurationError
from torchplug.recipe.lightning_classes import MODULES, read_classes
from torchplug.recipe.settings import Settings, top_level
from torchplug.recipe.sources import CommandLine
from torchplug.registry.signatures import plain
from torchplug.settings.groups import GROUPS, parameters_of, read_group
from torchplug.settings.model import MODEL, read_model, written
from torchplug.tracking.choices import chosen
from torchplug.tracking.settings import Tracking


@dataclass(frozen=True)
class Values:
    """Resolved settings.

    Args:
        seed_everything: what all random generators are seeded with.
        plugins_lock: the file that plugins were compared with; None: they were not.
        model: parameters of ComponentModule: specs, and how they are trained.
        data: parameters of TabularData.
        trainer: parameters of Lightning's Trainer; classes as mappings with class_path and init_args.
        tracking: parameters of Tracking.
        others: the settings outside of groups, by name: ckpt_path, and output and id of `predict`.
    """

    seed_everything: int
    plugins_lock: str | None
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    trainer: Mapping[str, Any]
    tracking: Mapping[str, Any]
    others: Mapping[str, Any]

    def plain(self) -> dict[str, Any]:
        """The settings in plain types, as `--config` reads them."""
        model = {name: written(name, value) for name, value in self.model.items()}
        groups = {MODEL: model, **{name: getattr(self, name) for name in GROUPS}}
        own = {"seed_everything": self.seed_everything, "plugins_lock": self.plugins_lock}
        everything: dict[str, Any] = plain({**own, **groups, **self.others})
        return everything

    def text(self, leave_out: tuple[str, ...] = ()) -> str:
        """The settings as YAML that `--config` reads."""
        return as_yaml({name: value for name, value in self.plain().items() if name not in leave_out})


def as_yaml(settings: Mapping[str, Any]) -> str:
    """Settings as YAML, in their order."""
    text: str = yaml.safe_dump(dict(settings), allow_unicode=True, sort_keys=False)
    return text


def resolve(settings: Settings, line: CommandLine) -> Values:
    """A recipe's settings with what a command line, files and variables give.

    Args:
        settings: the recipe's.
        line: the command line.

    Raises:
        ConfigurationError: for values that do not fit.
    """
    groups = {}
    for name in GROUPS:
        givens = [given for given in line.of(name) if name != "trainer" or given.path[1] not in MODULES]
        groups[name] = read_group(parameters_of(name), settings.group(name), givens)
    groups["trainer"] |= read_classes(settings.group("trainer"), line.of("trainer"))
    if groups["data"]["source"] is None:
        raise ConfigurationError("--data.source is needed")
    groups["tracking"]["project"] = chosen(Tracking(**groups["tracking"])).project
    known = top_level(line.subcommand)
    start = {name: parameter.default for name, parameter in known.items()} | {"seed_everything": settings.seed}
    start |= {"refit": settings.refit} if "refit" in known else {}
    others = read_group(known, start, [given for name in known for given in line.of(name)])
    seed, lock = others.pop("seed_everything"), others.pop("plugins_lock")
    return Values(seed, lock, read_model(settings.model, line.of(MODEL)), **groups, others=others)


def difference(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that differ from defaults."""
    differing = {}
    for name, value in settings.items():
        default = defaults.get(name)
        if isinstance(value, Mapping) and isinstance(default, Mapping) and "class_path" not in value:
            value, default = difference(value, default), {}
        if value != default:
            differing[name] = value
    return differing
