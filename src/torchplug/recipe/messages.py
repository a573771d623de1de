"""What jsonargparse refuses, told in one line of the user's own words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from torchplug.component import Family
from torchplug.errors import UnknownComponentError
from torchplug.recipe.components import shown
from torchplug.registry import registry

_SLOT = re.compile(r"^model\.(model|loss|optimizer|regularizer|scheduler|metric)s?\b")


def one_line(message: str, flags: Iterable[str]) -> str:
    """Reduce an error of the parser to one line: which flag, what is wrong, what is accepted.

    Args:
        message: jsonargparse's text, several indented lines.
        flags: every flag of the parser, for near names.
    """
    lines = [line.strip().removeprefix("- ") for line in message.splitlines() if line.strip()]
    unknown = re.match(r"unrecognized arguments: (.*)", lines[0])
    if unknown:
        return _unrecognized(unknown[1].split()[0], flags)
    if setting := re.search(r"(?:accept option|^Option) '([^']+)'(.*)", lines[0]):
        return _unknown_setting(setting[1], "before subcommand" in setting[2], flags)
    if needed := re.match(r"the following arguments are required: \w+\.([\w.]+)$", lines[0]):
        return f"--{needed[1]} is needed"
    keys = [match[1] for line in lines if (match := re.search(r'Parser key "([^"]+)"', line))]
    components = [shown(match[1]) for line in lines if (match := re.search(r"given class_path '([^']+)'", line))]
    # The innermost of nested components; but the first of Lightning's classes: others are alternatives.
    component = (components[-1] if _SLOT.match(keys[0] if keys else "") else components[0]) if components else None
    where = f"--{'.'.join(dict.fromkeys(keys))}: " if keys else ""
    return where + _complaint(lines, keys, component)


def _complaint(lines: list[str], keys: list[str], component: str | None) -> str:
    text = "\n".join(lines)
    if '"<unicode string>"' in text:
        return "neither a file nor valid YAML"
    family = Family(match[1]) if keys and (match := _SLOT.match(keys[0])) else None
    if refused := re.search(r"Importing '([^']+)' is not allowed", text):
        return f"{refused[1]} is refused: settings name registered components, or classes of lightning"
    if family is not None:
        if name := re.search(r"Expected a dot import path string: (.*)", text):
            return _unknown_component(family, name[1])
        if f"has no attribute '{family.value}'" in text:
            return f"name the {family.value} first; known are {_known(family)}"
        if component is not None:
            if option := re.search(r"Option '([^']+)' is not accepted|[Kk]ey '([^']+)' is not expected", text):
                return _unknown_parameter(family, component, option[1] or option[2])
            if required := re.search(r"arguments are required: (.*)", text):
                return f"{component} needs {required[1]}"
    elif component is not None:
        return _refused_by_class(component.rpartition(".")[2], text)
    elif name := re.search(r"Expected a dot import path string: (.*)", text):
        return f"unknown class {name[1]!r}"
    if types := re.search(r"^Subtypes: \[(.*)\]$", text, re.MULTILINE):
        value = re.search(r"^Given value: (.*)$", text, re.MULTILINE)
        return f"expected {_types(types[1])}, got {value[1] if value else 'something else'}"
    if expected := re.search(r"Expected an? (.*?)\.? Got value: (.*)", text):
        return f"expected {_types(expected[1])}, got {expected[2]}"
    return shown(re.sub(r'^.*Parser key "[^"]+": ?', "", lines[-1]))


def _refused_by_class(name: str, text: str) -> str:
    """What one of Lightning's classes refuses."""
    if value := re.search(r"Expected an? (.*?)\.? Got value: (.*)", text):
        return f"{name}: expected {_types(value[1])}, got {value[2]}"
    if required := re.search(r"arguments are required: (.*)", text):
        return f"{name} needs {required[1]}"
    if option := re.search(r"Option '([^']+)' is not accepted", text):
        return f"{name} has no parameter {option[1]!r}"
    return f"{name} cannot be built from these settings"


def _unknown_component(family: Family, name: str) -> str:
    if re.search(r"[{}\[\]\s]", name):
        return f"{name} is neither a name nor valid YAML"
    try:
        registry().find(family, name)
    except UnknownComponentError as error:
        return str(error)
    return f"unknown {family.value} {name!r}; known are {_known(family)}"


def _unknown_parameter(family: Family, component: str, name: str) -> str:
    has = list(registry().parameters(registry().find(family, component)))
    near = difflib.get_close_matches(name, has, n=1)
    advice = f"did you mean {near[0]}?" if near else f"it has {', '.join(has) or 'none'}"
    return f"{component} has no parameter {name!r}; {advice}"


def _unrecognized(argument: str, flags: Iterable[str]) -> str:
    flag = argument.partition("=")[0]
    if not flag.startswith("-"):
        return f"unknown argument {argument!r}; settings are given as --name value"
    near = difflib.get_close_matches(flag, list(flags), n=3)
    return f"unknown flag {flag}" + (f"; did you mean {' or '.join(near)}?" if near else "; see --help")


def _unknown_setting(key: str, early: bool, flags: Iterable[str]) -> str:
    """A key of a configuration file that the parser does not know, where it stands."""
    known = [flag.removeprefix("--") for flag in flags]
    if early and key in known:
        return f"{key} is a setting of a subcommand: give --config after the subcommand"
    near = difflib.get_close_matches(key, known, n=1)
    return f"unknown setting {key}" + (f"; did you mean {near[0]}?" if near else "; see --help")


def _known(family: Family) -> str:
    return ", ".join(entry.name for entry in registry().entries(family))


def _types(text: str) -> str:
    """Type names as people write them: int or null, one of a, b."""
    text = re.sub(r"typing\.Literal\[([^\]]*)\]", lambda match: f"one of {match[1]}", text)
    text = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", text)
    text = re.sub(r"\b(?:typing|lightning\.[\w.]+)\.(\w+)", r"\1", text).replace("NoneType", "null")
    return re.sub(r", (?=[\w\[\], ]*$)", " or ", text) if "one of" not in text else text
