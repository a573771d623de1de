"""What can be set on a recipe's command line, and what a recipe sets itself."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer

from torchplug.bounded_yaml import UnboundedError
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.trainer import NOT_SETTABLE
from torchplug.recipe.given import Given, structure
from torchplug.recipe.subcommands import options_of
from torchplug.registry.signatures import allows_none, expected, settable_parameters
from torchplug.registry.value_types import convert
from torchplug.terminal import shortened
from torchplug.tracking.settings import Tracking

if TYPE_CHECKING:
    from torchplug.recipe.adaptation import TableSummary

GROUPS: Mapping[str, Any] = {"data": TabularData, "trainer": Trainer, "tracking": Tracking}
"""Groups of settings that are the parameters of a class; `model` holds components besides."""

_OWN_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "data": {"source": None},
    # What Lightning's sanity check would find is checked before any rank starts.
    "trainer": {"num_sanity_val_steps": 0, "enable_model_summary": False},
    "tracking": asdict(Tracking()),
}


@dataclass(frozen=True)
class Settings:
    """What a recipe sets: the defaults of its command line.

    Args:
        model: a component for each slot (model, loss, optimizer, regularizers, scheduler).
        data: parameters of TabularData.
        trainer: parameters of lightning's Trainer.
        tracking: parameters of Tracking.
        seed: what all random generators are seeded with.
        adapt: rules for defaults that follow from the table of a new fit: settings by group (model, data, trainer),
            which come before those above, and which files, variables and flags override.
    """

    model: Mapping[str, Any]
    data: Mapping[str, Any]
    trainer: Mapping[str, Any] = field(default_factory=dict)
    tracking: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    adapt: Callable[[TableSummary], Mapping[str, Mapping[str, Any]]] | None = None

    def group(self, name: str) -> dict[str, Any]:
        """The defaults of a group of settings, those of its class included."""
        chosen: Mapping[str, Any] = getattr(self, name)
        own = {key: parameter.default for key, parameter in signature_of(name).items()}
        return {**own, **_OWN_DEFAULTS[name], **chosen}


@cache
def parameters_of(group: str) -> Mapping[str, Parameter]:
    """The settings of a group that have plain values, with their types."""
    return settable_parameters(GROUPS[group], leave_out=NOT_SETTABLE)


@cache
def signature_of(group: str) -> Mapping[str, Parameter]:
    """All settings of a group, in order."""
    return {name: known for name, known in signature(GROUPS[group]).parameters.items() if name not in NOT_SETTABLE}


def top_level(subcommand: str) -> dict[str, Parameter]:
    """The settings outside of groups that a subcommand takes."""
    return {
        name: Parameter(name, Parameter.KEYWORD_ONLY, annotation=option.annotation, default=option.default)
        for name, option in options_of(subcommand).items()
    }


def read_value(annotation: Any, given: Given, current: Any = None) -> Any:
    """A setting's value as its type.

    Args:
        annotation: the type.
        given: the value, and where it stands.
        current: the list that a value given by `+=` is added to.

    Raises:
        ConfigurationError: if the value does not fit.
    """
    value = given.value
    if given.appends:
        value = structure(given)
        there = current if isinstance(current, list | tuple) else []
        value = [*there, *(value if isinstance(value, list) else [value])]
    if value in ("null", "None") and allows_none(annotation):
        return None
    try:
        return convert(annotation, value)
    except UnboundedError as error:
        raise ConfigurationError(f"{given.where}: {error}") from error
    except ValueError as error:
        if isinstance(error.__cause__, OverflowError):
            raise ConfigurationError(f"{given.where}: {error}") from None
        wanted = expected(annotation).replace(" | None", " or null").replace(" | ", " or ")
        raise ConfigurationError(f"{given.where}: expected {wanted}, got {shortened(str(value))}") from None


def read_group(known: Mapping[str, Parameter], start: Mapping[str, Any], givens: Iterable[Given]) -> dict[str, Any]:
    """The values of a group of plain settings.

    Args:
        known: the settings and their types.
        start: their defaults.
        givens: what was given for them, later ones counting more; the last part of a path is the setting's name, or the
            key of a setting that is a mapping.

    Raises:
        ConfigurationError: if a value does not fit.
    """
    values = dict(start)
    for given in givens:
        name, *rest = given.path[-1:] if given.path[0] not in GROUPS else given.path[1:]
        values[name] = read_value(known[name].annotation, given.within(values[name], rest), values[name])
    return values


def near(name: str, known: Iterable[str], count: int = 1) -> str:
    """Advice for an unknown name: near ones, if there are any."""
    found = difflib.get_close_matches(name, list(known), n=count)
    return f"did you mean {' or '.join(found)}?" if found else "see --help"
