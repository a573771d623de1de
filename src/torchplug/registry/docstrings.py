"""Descriptions of components, from their records, signatures and docstrings."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any

from torchplug.registry import Entry, Registry
from torchplug.registry.component import Component, Metric
from torchplug.registry.docstring_styles import as_google
from torchplug.registry.signatures import Fixed, is_factory, plain, type_name
from torchplug.terminal import shortened

_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Shape|Returns|Yields|Raises|References?|Notes?|Warnings?|Examples?|Attributes):+ *(.*)"
)
_ARGUMENT = re.compile(r"\*{0,2}(\w+(?:, \w+)*)(?: *\([^)]*\))?: *(.*)")


@dataclass(frozen=True)
class Documentation:
    """A docstring in parts.

    Args:
        text: the prose before the first section, formula left out.
        formula: the first indented block, which is how formulas stand in docstrings.
        arguments: name → description, which holds units and range.
        sections: the other sections by heading, in the singular: Shape, Raises, Reference, Note.
    """

    text: str = ""
    formula: str = ""
    arguments: dict[str, str] = field(default_factory=dict)
    sections: dict[str, str] = field(default_factory=dict)


def read_docstring(docstring: str | None) -> Documentation:
    """Take apart a docstring with sections in the style of Google, numpydoc or reStructuredText."""
    parts: dict[str, list[str]] = {"": []}
    heading, after_blank = "", False
    for line in as_google(inspect.cleandoc(docstring or "").splitlines()):
        section = _SECTION.fullmatch(line)
        if section:
            heading = {"Arguments": "Args", "Parameters": "Args"}.get(section[1], section[1])
            heading = heading if heading in ("Args", "Raises", "Returns") else heading.removesuffix("s")
            parts.setdefault(heading, []).append(section[2])
        else:
            # Prose at the margin after a blank line belongs to no section; without one it continues the section.
            heading = "" if after_blank and line[:1].strip() else heading
            parts[heading].append(line)
        after_blank = not line.strip()
    text, formula = _split_formula(parts.pop(""))
    arguments = _read_arguments(parts.pop("Args", []))
    sections = {name: textwrap.dedent("\n".join(lines).strip("\n")).strip() for name, lines in parts.items()}
    return Documentation(text, formula, arguments, sections)


def describe(registry: Registry, entry: Entry) -> dict[str, Any]:
    """Return everything about a component as plain types; imports its target.

    Raises:
        PluginError: if the target cannot be imported, or its signature does not serve the family.
    """
    target = registry.target(entry)
    documentation = read_docstring(target.__doc__)
    arguments = documentation.arguments
    if inspect.isclass(target):
        arguments = read_docstring(target.__init__.__doc__).arguments | arguments
    return {
        **summarize(entry),
        "description": documentation.text,
        "formula": documentation.formula,
        "parameters": [
            _describe_parameter(entry, parameter, arguments.get(name, ""))
            for name, parameter in registry.parameters(entry).items()
        ]
        + [_describe_fixed(fixed, arguments.get(name, "")) for name, fixed in registry.fixed(entry).items()],
        **{name.lower(): documentation.sections.get(name, "") for name in ("Shape", "Raises", "Reference", "Note")},
    }


def page(description: dict[str, Any], prefix: str = "") -> str:
    """Return a description as people read it.

    Args:
        description: what `describe` returns.
        prefix: what stands before the parameters' names, such as `--model.optimizer.`.
    """
    owner = f"{description['distribution']} {description['version']}"
    blocks = [f"{description['name']} ({description['family']}, {owner})", description["description"]]
    blocks[1] = shortened(blocks[1] or description["summary"])
    if description["formula"]:
        blocks.append(textwrap.indent(description["formula"], "    "))
    if description["parameters"]:
        blocks.append("\n".join(["Parameters:", *(_parameter(known, prefix) for known in description["parameters"])]))
    for heading in ("shape", "raises", "reference", "note"):
        if description[heading]:
            blocks.append(f"{heading.capitalize()}:\n{textwrap.indent(shortened(description[heading]), '    ')}")
    if metric := description["metric"]:
        kinds = ", ".join(metric["kinds"])
        blocks.append(f"Metric:\n    of {metric['view']}, for losses of kind {kinds}; best is {metric['best']}")
    if description["capabilities"]:
        blocks.append(f"Capabilities:\n    {', '.join(description['capabilities'])}")
    return "\n\n".join(blocks)


def _parameter(known: Mapping[str, Any], prefix: str) -> str:
    if known["fixed"] is not None:
        text = f"Not settable by name: {known['fixed']}. {known['description']}".strip()
        return parameter_text(known["name"], known["type"], known["default"], text)
    reserved = "init_args." if prefix and known["name"] in ("help", "class_path", "init_args") else ""
    name = f"{prefix}{reserved}{known['name']}"
    return parameter_text(name, known["type"], repr(known["default"]), known["description"], known["required"])


def parameter_text(name: str, type: str, default: str, description: str, required: bool = False) -> str:
    """Return the lines that explain a parameter: its name, type and default, and below them its meaning."""
    head = f"    {name}: {type}{', required' if required else f' = {default}'}"
    text = textwrap.fill(shortened(description), 92, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return f"{head}\n{text}" if text else head


def summarize(entry: Entry) -> dict[str, Any]:
    """Return a component's record as plain types, without importing its target."""
    return {
        "family": entry.family.value,
        "name": entry.name,
        "qualified_name": entry.qualified_name,
        "distribution": entry.distribution,
        "version": entry.version,
        "summary": entry.component.summary,
        "capabilities": sorted(need.value for need in entry.component.capabilities),
        "metric": _of_metric(entry.component),
    }


def _of_metric(component: Component) -> dict[str, Any] | None:
    if not isinstance(component, Metric):
        return None
    return {"kinds": sorted(component.kinds), "view": component.view, "best": component.direction}


def _describe_parameter(entry: Entry, parameter: Parameter, description: str) -> dict[str, Any]:
    required = parameter.default is Parameter.empty
    shown = type_name(parameter.annotation)
    try:
        default = None if required else plain(parameter.default)
    except ValueError:  # nothing that a user could write
        default = repr(parameter.default)
    if is_factory(parameter.annotation):
        shown = shown.replace("component", entry.family.value)
    return {
        "name": parameter.name,
        "type": shown,
        "required": required,
        "default": default,
        "description": description,
        "fixed": None,
    }


def _describe_fixed(fixed: Fixed, description: str) -> dict[str, Any]:
    return {
        "name": fixed.name,
        "type": fixed.type,
        "required": False,
        "default": fixed.default,
        "description": description,
        "fixed": fixed.reason,
    }


def _split_formula(lines: list[str]) -> tuple[str, str]:
    """Part prose from its first indented block."""
    start = next((i for i, line in enumerate(lines) if line.startswith(" ")), len(lines))
    end = next((i for i, line in enumerate(lines) if i > start and line[:1].strip()), len(lines))
    # `.. math::` and its like are instructions to a documentation generator.
    prose = [line for line in [*lines[:start], *lines[end:]] if not line.startswith(".. ")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(prose)).strip()
    return text, textwrap.dedent("\n".join(lines[start:end])).strip("\n")


def _read_arguments(lines: list[str]) -> dict[str, str]:
    arguments: dict[str, str] = {}
    names: list[str] = []
    for line in textwrap.dedent("\n".join(lines).strip("\n")).splitlines():
        argument = _ARGUMENT.fullmatch(line)
        if argument:
            names = argument[1].split(", ")
            arguments.update(dict.fromkeys(names, argument[2]))
        else:
            arguments.update({name: f"{arguments[name]} {line.strip()}".strip() for name in names})
    return arguments
