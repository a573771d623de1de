"""What is declared for components under test, in their project's pyproject.toml or by arguments. No torch.

[tool.torchplug.check.parameters."loss:asymmetric"]
factor = 3.0

[tool.torchplug.check.expected_failed_checks."loss:ranking"]
rows_are_independent = "it compares the rows of a batch"
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any

from torchplug.errors import ConfigurationError, ParameterError, PluginError
from torchplug.registry import Entry, registry
from torchplug.registry.component import Spec
from torchplug.registry.installed import installations
from torchplug.registry.permissions import canonical_name
from torchplug.registry.project_file import NAME, ProjectFile, refuse_unknown_keys
from torchplug.testing.runner import checks

PARAMETERS, EXPECTED = "parameters", "expected_failed_checks"
_TABLE = "tool.torchplug.check"


@dataclass(frozen=True)
class Declarations:
    """What is declared for components.

    Args:
        parameters: component → values of its parameters.
        expected: component → check → why it fails.
    """

    parameters: Mapping[Entry, Mapping[str, Any]] = field(default_factory=dict)
    expected: Mapping[Entry, Mapping[str, str]] = field(default_factory=dict)

    def __or__(self, other: Declarations) -> Declarations:
        """These, and over them others: parameters by component, expected failures by check."""
        expected = {entry: {**self.expected.get(entry, {}), **reasons} for entry, reasons in other.expected.items()}
        return Declarations({**self.parameters, **other.parameters}, {**self.expected, **expected})


def declared(values: Mapping[str, Any], entries: Sequence[Entry], where: str = "") -> Declarations:
    """Read what is declared by `family:name`, or by the name where that is unique.

    Args:
        values: with the keys `parameters` and `expected_failed_checks`.
        entries: the components that it may be declared for.
        where: it stands, for messages, such as a file with a colon.

    Raises:
        ConfigurationError: for a component, a check or a parameter that there is not, or a value that does not fit.
    """
    given = _by_component(values.get(PARAMETERS, {}), entries, f"{where}{PARAMETERS}")
    expected = _by_component(values.get(EXPECTED, {}), entries, f"{where}{EXPECTED}")
    for entry, parameters in given.items():
        _refuse_parameters(entry, parameters, f"{where}{PARAMETERS}")
    for entry, reasons in expected.items():
        _refuse_checks(entry, reasons, f"{where}{EXPECTED}")
    return Declarations(given, expected)


def declared_in_projects(entries: Iterable[Entry]) -> Declarations:
    """Read the tables `[tool.torchplug.check]` of the components' distributions.

    That of a distribution stands in the pyproject.toml of the working directory, or the nearest one above it, if this
    is the distribution's project; else in the source folder of an installation in place.

    Args:
        entries: the components.

    Raises:
        ConfigurationError: as for `declared`, or for a malformed file.
    """
    found = Declarations()
    for distribution in dict.fromkeys(entry.distribution for entry in entries):
        project = _project_of(distribution)
        table = project.settings.get("check", {})
        if not isinstance(table, dict):
            raise ConfigurationError(f"{project.path}: {_TABLE} must be a table")
        refuse_unknown_keys(table, (PARAMETERS, EXPECTED), f"{project.path}: {_TABLE}")
        owned = [entry for entry in registry().entries() if entry.distribution == distribution]
        found |= declared(table, owned, f"{project.path}: {_TABLE}.")
    return found


def _project_of(distribution: str) -> ProjectFile:
    nearest = ProjectFile.nearest()
    if canonical_name(nearest.distribution) == distribution:
        return nearest
    source = installations()[distribution].source
    if source is None or not (source / NAME).is_file():
        return ProjectFile()
    own = ProjectFile.read(source / NAME)
    return own if canonical_name(own.distribution) == distribution else ProjectFile()


def _by_component(values: Any, entries: Sequence[Entry], where: str) -> dict[Entry, Mapping[str, Any]]:
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{where} must be a table of components")
    found: dict[Entry, Mapping[str, Any]] = {}
    for name, value in values.items():
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where}: {name} must be a table, and is {value!r}")
        meant = _meant(name, entries, where)
        if meant[0] in found:
            raise ConfigurationError(f"{where}: {meant[0].name} is declared twice")
        found |= dict.fromkeys(meant, value)
    return found


def _meant(name: str, entries: Sequence[Entry], where: str) -> list[Entry]:
    """The components of a name, which are of one family; several distributions may have it."""
    keys = {entry: f"{entry.family.value}:{entry.name}" for entry in entries}
    meant = {entry: key for entry, key in keys.items() if name in (key, entry.name)}
    families = sorted(set(meant.values()))
    if not meant:
        near = difflib.get_close_matches(name, [*keys.values(), *(entry.name for entry in keys)], n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(keys.values())}"
        raise ConfigurationError(f"{where}: no component {name!r} is checked: {hint}")
    if len(families) > 1:
        raise ConfigurationError(f"{where}: {name!r} means {' and '.join(families)}: use one of these")
    return list(meant)


def _refuse_parameters(entry: Entry, given: Mapping[str, Any], where: str) -> None:
    """Refuse values that the component does not take; whether its target can be imported is for a check to say."""
    try:
        for name in given:
            registry().parameter(entry, name)
        known = registry().parameters(entry)
        if all(name in given or parameter.default is not Parameter.empty for name, parameter in known.items()):
            registry().resolve(entry.family, Spec(entry.qualified_name, given))
    except ParameterError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    except PluginError:
        return


def _refuse_checks(entry: Entry, reasons: Mapping[str, Any], where: str) -> None:
    known = sorted(check.name for check in checks() if entry.family in check.families)
    for name, reason in reasons.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "`torchplug check` prints them all"
            raise ConfigurationError(f"{where}: {entry.name}: no check {name!r} of {entry.family.plural}: {hint}")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigurationError(f"{where}: {entry.name}: {name} needs a text that says why it fails")
