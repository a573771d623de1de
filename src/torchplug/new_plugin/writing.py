"""Writes the files of a new plugin from the templates of this package; nothing of a template is run."""

from __future__ import annotations

import importlib.util
import keyword
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from torchplug.errors import ConfigurationError, WriteError
from torchplug.new_plugin.examples import EXAMPLES, Example
from torchplug.registry.component import Family

LICENSES = ("Apache-2.0", "BSD-3-Clause", "MIT", "none")
"""By their SPDX identifiers; `none` leaves the choice open."""


def write_plugin(
    name: str, families: Sequence[Family], folder: Path, *, license: str, author: str, version: str
) -> list[Path]:
    """Write the folder of a new distribution, whole or not at all.

    Args:
        name: of the distribution, such as `my-losses`.
        families: whose examples it has, one or more.
        folder: where; it must not exist yet.
        license: one of `LICENSES`.
        author: the holder of the copyright; empty: the authors of the distribution.
        version: of torchplug, the least that the distribution requires.

    Returns:
        the files, in alphabetical order.

    Raises:
        ConfigurationError: if the name cannot be used or the folder exists.
        WriteError: if it cannot be written.
    """
    package = _package(name)
    author = author or f"the authors of {name}"
    if any(not sign.isprintable() or sign in '"\\' for sign in author):
        raise ConfigurationError("author is text of one line without quotation marks or backslashes")
    if folder.exists():
        raise ConfigurationError(f"{folder} exists: choose another name, or --folder")
    examples = [example for example in EXAMPLES if example.family in families]
    values = {"name": name, "package": package, "author": author, "torchplug": version}
    content = dict(_content(examples, license, values))
    unfinished = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        for path, text in content.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_text(text, encoding="utf-8")
        unfinished.rename(folder)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise WriteError(f"{folder} cannot be written: {error.strerror}") from error
    return sorted(folder / path for path in content)


def _package(name: str) -> str:
    """The importable name of a distribution's package."""
    package = re.sub(r"[-.]+", "_", name)
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_.]+[a-z0-9]+)*", name) or keyword.iskeyword(package):
        raise ConfigurationError(
            f"{name!r} is no name for a distribution: use lower-case letters, digits and hyphens, a letter first"
        )
    if package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None:
        raise ConfigurationError(f"{package} is the name of a package that is installed: choose another name")
    return package


def _content(examples: Sequence[Example], license: str, values: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Paths in the folder, and their text."""
    package = values["package"]
    *most, last = [example.family.plural for example in examples]
    described = f"{', '.join(most)} and {last}" if most else last
    license_field = "" if license == "none" else f'license = "{license}"\nlicense-files = ["LICENSE"]'
    values = {**values, "description": f"{described.capitalize()} for torchplug", "license_field": license_field}
    yield "pyproject.toml", _filled("pyproject.toml", values).replace("\n\n\n", "\n")
    yield "README.md", _filled("README.md", {**values, **_readme(examples)})
    yield ".gitignore", _filled("gitignore", values)
    yield ".github/workflows/tests.yml", _filled("workflow.yml", values)
    if license != "none":
        yield "LICENSE", _filled(f"licenses/{license}", values)
    yield f"src/{package}/__init__.py", _filled("package.py", {**values, **_hooks(examples, package)})
    yield f"src/{package}/py.typed", ""
    yield "tests/test_components.py", _filled("tests/components", values)
    for example in examples:
        family = example.family
        yield f"src/{package}/{family.plural}.py", _filled(f"families/{family.value}", values)
        yield f"tests/test_{family.plural}.py", _filled(f"tests/{family.value}", values)


def _filled(template: str, values: dict[str, str]) -> str:
    text = (files(__package__) / "templates" / f"{template}.template").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _readme(examples: Sequence[Example]) -> dict[str, str]:
    return {
        "rows": "\n".join(f"| {one.family.value} | `{one.name}` | {one.summary} |" for one in examples),
        "examples": "\n".join(f"python recipes/{one.use}" for one in examples),
    }


def _hooks(examples: Sequence[Example], package: str) -> dict[str, str]:
    names = {"hookimpl"} | {name for one in examples for name in (one.record, *one.needs)}
    return {
        "imports": ", ".join(sorted(names)),
        "hooks": "\n\n\n".join(_hook(example, package) for example in examples),
    }


def _hook(example: Example, package: str) -> str:
    family = example.family
    options = "".join(f"            {option},\n" for option in example.options)
    return (
        "@hookimpl\n"
        f"def {family.hook}() -> list[{example.record}]:\n"
        f'    """The {family.plural}, named by strings, so that listing them imports no torch."""\n'
        "    return [\n"
        f"        {example.record}(\n"
        f'            "{example.name}",\n'
        f'            "{package}.{family.plural}:{example.target}",\n'
        f'            "{example.summary}",\n'
        f"{options}"
        "        )\n"
        "    ]"
    )
