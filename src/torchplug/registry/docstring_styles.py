"""Docstrings in the styles of numpydoc and reStructuredText, rewritten in Google's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_HEADINGS = {
    "Parameters": "Args",
    "Other Parameters": "Args",
    "Returns": "Returns",
    "Yields": "Yields",
    "Raises": "Raises",
    "References": "References",
    "Notes": "Notes",
    "Warnings": "Warnings",
    "Warns": "Warnings",
    "Examples": "Examples",
    "Attributes": "Attributes",
    "Shape": "Shape",
    "See Also": "Notes",
}
"""Sections of numpydoc that are understood, and what Google's style calls them."""
_ITEMIZED = ("Args", "Raises", "Attributes")
"""Sections whose lines at the margin name what the indented ones below describe."""
_UNDERLINE = re.compile(r"[-=~]{3,}")
_ITEM = re.compile(r"(\*{0,2}\w[\w., *]*?)(?: *: *(.*))?")
_FIELD = re.compile(
    r":(param|parameter|arg|argument|key|keyword|raises?|except|exception|returns?|yields?)( [^:]*)?: ?(.*)"
)
_OTHER_FIELD = re.compile(r":(type|rtype|var|vartype|ivar|cvar|meta)\b[^:]*:.*")
_CITATION = re.compile(r"\.\. \[[^\]]+\] +")


def as_google(lines: list[str]) -> list[str]:
    """The lines of a docstring in Google's style; those that are already are unchanged.

    Args:
        lines: without the common indentation.
    """
    if any(_is_heading(lines, index) for index in range(len(lines))):
        lines = list(_from_numpydoc(lines))
    if any(_FIELD.fullmatch(line) for line in lines):
        lines = _from_fields(lines)
    return _with_references(lines)


def _is_heading(lines: list[str], index: int) -> bool:
    below = lines[index + 1] if index + 1 < len(lines) else ""
    return lines[index] in _HEADINGS and _UNDERLINE.fullmatch(below.rstrip()) is not None


def _from_numpydoc(lines: list[str]) -> Iterator[str]:
    heading = ""
    for index, line in enumerate(lines):
        if index and _is_heading(lines, index - 1):
            continue  # the line below a heading
        if _is_heading(lines, index):
            heading = _HEADINGS[line]
            yield f"{heading}:"
        elif heading in _ITEMIZED and (item := _ITEM.fullmatch(line)):
            yield f"    {item[1].strip()}:"
        else:
            yield f"    {line}" if heading and line else line


def _from_fields(lines: list[str]) -> list[str]:
    """Sections of fields, such as `:param lr: the learning rate`, after the rest of the text."""
    rest: list[str] = []
    sections: dict[str, list[str]] = {"Args": [], "Raises": [], "Returns": []}
    section: list[str] | None = None
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field:
            section = sections[_section(field[1])]
            name = (field[2] or "").strip().rpartition(" ")[2]  # the type may stand before the name
            section.append(f"    {name}: {field[3]}" if name else f"    {field[3]}")
        elif _OTHER_FIELD.fullmatch(line):
            section = []
        elif section is not None and line[:1].isspace():
            section.append(f"    {line}")
        else:
            section = None if line else section
            rest.append(line)
    return [*rest, "", *(text for name, kept in sections.items() if kept for text in (f"{name}:", *kept))]


def _section(field: str) -> str:
    if field.startswith(("raise", "except")):
        return "Raises"
    return "Returns" if field.startswith(("return", "yield")) else "Args"


def _with_references(lines: Iterable[str]) -> list[str]:
    """Citations as the section References, unless they already stand in one."""
    kept: list[str] = []
    cited: list[str] = []
    citing = False
    for line in lines:
        start = _CITATION.match(line)
        citing = start is not None or (citing and line[:1].isspace())
        if citing:
            cited.append(f"    {_CITATION.sub('', line.strip())}")
        else:
            kept.append(re.sub(rf"^( +){_CITATION.pattern}", r"\1", line))
    return [*kept, "", "References:", *cited] if cited else kept
