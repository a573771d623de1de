"""`--model.*`: settings read straight into the registry, which says what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Literal

from torchplug.errors import ConfigurationError, TorchplugError
from torchplug.registry import registry
from torchplug.registry.component import Family, Spec
from torchplug.registry.signatures import allows_none, has_plain_default, is_factory
from torchplug.settings import parameter_groups
from torchplug.settings.given import structure
from torchplug.settings.groups import read_value
from torchplug.training import Engine, StepsPerExecution

if TYPE_CHECKING:
    from torchplug.settings.given import Given

MODEL = "model"


@dataclass(frozen=True)
class Slot:
    """A place for components of one family.

    Args:
        family: the family.
        summary: what its component does, for `--help`.
        optional: whether it may be empty.
        many: whether it holds a list.
    """

    family: Family
    summary: str
    optional: bool = False
    many: bool = False


SLOTS: Mapping[str, Slot] = {
    "model": Slot(Family.MODEL, "the network"),
    "loss": Slot(Family.LOSS, "what is minimized"),
    "optimizer": Slot(Family.OPTIMIZER, "how parameters are updated"),
    "scheduler": Slot(Family.SCHEDULER, "how the learning rate changes", optional=True),
    "regularizers": Slot(Family.REGULARIZER, "penalties; += adds one, a whole list replaces them", many=True),
    "metrics": Slot(Family.METRIC, "metrics beside those of the loss's kind; += adds one", many=True),
}
OPTIONS: Mapping[str, tuple[Any, Any, str]] = {
    "reduction": (Literal["mean", "sum"], "mean", "mean or sum of the samples' losses"),
    "groups": (
        parameter_groups.TYPE,
        None,
        "a factor lr and weight_decay by pattern of parameter names: '{bias: {lr: 0.1}, \"0.*\": {weight_decay: 0}}'",
    ),
    "engine": (
        Engine,
        "auto",
        "how gradients of minibatches are computed: analytic, autograd or compiled; auto chooses",
    ),
    "steps_per_execution": (
        StepsPerExecution,
        "auto",
        "optimizer steps per step of Lightning's; same results; auto: as many as possible",
    ),
    "sync_every": (
        int | None,
        None,
        "let ranks step alone and average parameters after so many steps; another algorithm",
    ),
    "gradient_norms": (bool, False, "log the gradient norm of each layer, every log_every_n_steps"),
    "calibrate": (bool, False, "divide the scores of classes by a temperature, found on the validation split"),
}
"""Settings of the module that are no components: type, default and meaning."""
COMPONENTS = (*SLOTS, *OPTIONS)
"""The settings of `--model`."""


def read_model(defaults: Mapping[str, Any], givens: Iterable[Given]) -> dict[str, Any]:
    """The parameters of ComponentModule: specs with every parameter, and how they are trained.

    Naming another component starts from that component's own defaults; naming the same keeps the parameters that were
    set before.

    Args:
        defaults: what the recipe or a checkpoint sets.
        givens: what was given for `model`, later ones counting more.

    Raises:
        ConfigurationError: for components and parameters that do not exist, or values that do not fit.
    """
    chosen = {name: _start(slot, defaults.get(name)) for name, slot in SLOTS.items()}
    chosen |= {name: defaults.get(name, default) for name, (_, default, _) in OPTIONS.items()}
    for given in givens:
        _, name, *path = given.path
        if name == "groups":
            chosen[name] = parameter_groups.read_groups(given, chosen[name])
        elif name in OPTIONS:
            chosen[name] = read_value(OPTIONS[name][0], given.within(chosen[name], path))
        elif SLOTS[name].many:
            chosen[name] = _change_list(SLOTS[name].family, chosen[name], path, given)
        else:
            chosen[name] = _change(SLOTS[name].family, chosen[name], path, given, SLOTS[name].optional)
    return chosen | {name: _completed(name, slot.family, chosen[name]) for name, slot in SLOTS.items()}


def written(setting: str, value: Any) -> Any:
    """A spec as configuration files write it, with class_path and init_args; in lists too.

    A plugin's component has its qualified name, since another distribution may have the bare one later.

    Args:
        setting: the name of the setting, such as loss.
        value: its value.
    """
    if isinstance(value, Spec):
        entry = registry().find(SLOTS[setting].family, value.name)
        parameters = {key: written(setting, item) for key, item in value.parameters.items()}
        return {"class_path": entry.name if entry.builtin else entry.qualified_name, "init_args": parameters}
    return [written(setting, item) for item in value] if isinstance(value, list | tuple) else value


def known_names(family: Family) -> str:
    """The names of a family's components."""
    return ", ".join(registry().shortest_name(entry) for entry in registry().entries(family))


def _completed(name: str, family: Family, value: Any) -> Any:
    """A slot's component or components, checked, with every parameter."""
    if value is None:
        return None
    try:
        return [_complete(family, spec) for spec in value] if isinstance(value, list) else _complete(family, value)
    except ConfigurationError as error:
        raise type(error)(f"--{MODEL}.{name}: {error}") from error


def _complete(family: Family, spec: Spec) -> Spec:
    resolved = registry().resolve(family, spec)
    parameters = {}
    for name, known in registry().parameters(resolved.entry).items():
        if name not in resolved.parameters and not has_plain_default(known.annotation, known.default):
            continue
        value = resolved.parameters.get(name, known.default)
        if is_factory(known.annotation) and value is not None:
            value = _complete(family, Spec.of(spec.parameters.get(name, value)))
        parameters[name] = value
    return Spec(_shown(family, spec.name), parameters)


def _start(slot: Slot, value: Any) -> Any:
    return [Spec.of(item) for item in value or ()] if slot.many else None if value is None else Spec.of(value)


def _change_list(family: Family, chosen: list[Spec], path: list[str], given: Given) -> list[Spec]:
    """Replace a list of components, add to it, change the one of a number, or set a parameter of its last."""
    if path and path[0].isdecimal():
        return _change_numbered(family, chosen, int(path[0]), path[1:], given)
    if path:
        last = _change(family, chosen[-1] if chosen else None, path, given)
        return [*chosen[:-1], last]
    value = structure(given)
    if not given.appends and not isinstance(value, list):
        example = value if isinstance(value, str) else registry().entries(family)[0].name
        raise ConfigurationError(
            f"{given.where}: expected a list such as '[{example}]', which replaces those that there are; "
            f"--{'.'.join(given.path)}+={example} adds one"
        )
    items = value if isinstance(value, list) else [value]
    added = [_change(family, None, [], given.inside(item)) for item in items]
    return [*chosen, *added] if given.appends else added


def _change_numbered(family: Family, chosen: list[Spec], number: int, path: list[str], given: Given) -> list[Spec]:
    """Change the component of a number, counted from 0."""
    if number >= len(chosen):
        there = f"there are {len(chosen)}, counted from 0" if chosen else "there is none"
        raise ConfigurationError(f"{given.where}: {there}; --{'.'.join(given.path[:2])}+=NAME adds one")
    return [*chosen[:number], _change(family, chosen[number], path, given), *chosen[number + 1 :]]


def _change(family: Family, spec: Spec | None, path: list[str], given: Given, optional: bool = False) -> Any:
    """A slot's component after one setting: another component, or another value of a parameter."""
    if path:
        if spec is None:
            raise ConfigurationError(f"{given.where}: name the {family.value} first; known are {known_names(family)}")
        return _with_parameter(family, spec, path, given)
    value = structure(given)
    if value is None or value == "None":
        if optional:
            return None
        raise ConfigurationError(f"{given.where}: a {family.value} is needed; known are {known_names(family)}")
    name, parameters = _parts(value, given)
    if name is not None:
        spec = _named(family, spec, name, given)
    for key, item in parameters.items():
        spec = _change(family, spec, [str(key)], given.inside(item, str(key)))
    return spec


def _parts(value: Any, given: Given) -> tuple[Any, Mapping[str, Any]]:
    """A component's name, None for the one that is there, and parameters."""
    if not isinstance(value, Mapping):
        return value, {}
    for name, key in (("class_path", "init_args"), ("name", "parameters")):
        if value and set(value) <= {name, key}:
            parameters = value.get(key) or {}
            if not isinstance(parameters, Mapping):
                raise ConfigurationError(f"{given.where}: {key} must be a mapping, not {parameters}")
            return value.get(name), parameters
    return None, value


def _named(family: Family, spec: Spec | None, name: Any, given: Given) -> Spec:
    """The component of a name, with the parameters that it has if it is already there."""
    if not isinstance(name, str):
        raise ConfigurationError(
            f"{given.where}: expected a name, or a mapping with class_path and init_args, got {name!r}"
        )
    if re.fullmatch(r"[\w.]+\.\w+", name):
        raise ConfigurationError(f"{given.where}: {name} is refused: settings name registered components")
    with _naming(given):
        entry = registry().find(family, name)
        if spec is not None and registry().find(family, spec.name) == entry:
            return Spec(_shown(family, name), spec.parameters)
    return Spec(_shown(family, name))


def _with_parameter(family: Family, spec: Spec, path: list[str], given: Given) -> Spec:
    name, *inner = path
    with _naming(given):
        known = registry().parameter(registry().find(family, spec.name), name)
    current = spec.parameters.get(name, None if known.default is Parameter.empty else known.default)
    if is_factory(known.annotation):
        start = None if current is None else Spec.of(current)
        value = _change(family, start, inner, given, allows_none(known.annotation))
    else:
        value = read_value(known.annotation, given.within(current, inner), current)
    return Spec(spec.name, {**spec.parameters, name: value})


def _shown(family: Family, name: str) -> str:
    """A component's name as settings have it: a plugin's with its distribution if it was given so."""
    entry = registry().find(family, name)
    return entry.qualified_name if ":" in name and not entry.builtin else entry.name


@contextmanager
def _naming(given: Given) -> Iterator[None]:
    """Say in errors of the registry where the setting stands."""
    try:
        yield
    except TorchplugError as error:
        raise type(error)(f"{given.where}: {error}") from error
