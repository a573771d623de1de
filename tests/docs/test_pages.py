"""The pages of the documentation lead where they say, and list what there is."""

import ast
import re
from pathlib import Path

import pytest

from torchplug import Family
from torchplug.registry import registry

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "benchmarks/*.md", "plugins/*/README.md")
    for page in ROOT.glob(pattern)
)


def prose(page):
    """A page's text without code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page):
    """GitHub's anchors of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAGES)
def test_every_link_within_the_repository_leads_somewhere(name):
    page = ROOT / name
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def definitions(path):
    """The names of a file's functions, classes and methods, these as `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_every_hop_of_the_walks_is_defined_in_the_file_that_it_links_to():
    page = ROOT / "docs/walks.md"
    hops = re.findall(r"\[`([^`]+)`\]\(([^)]+\.py)\)", page.read_text(encoding="utf-8"))
    assert len(hops) > 80
    for name, path in hops:
        assert name in definitions((page.parent / path).resolve()), f"{name} in {path}"


def test_the_readme_lists_every_component():
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Components")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (\w+?)(?:e?s)? \|(.*)$", table, re.MULTILINE))
    zoo = (ROOT / "docs/zoo.md").read_text(encoding="utf-8")  # which has a table of its own
    for family in Family:
        row = next(text for name, text in rows.items() if family.value.startswith(name))
        pages = {entry: zoo if entry.distribution == "torchplug-zoo" else row for entry in registry().entries(family)}
        missing = [entry.name for entry, page in pages.items() if f"`{entry.name}`" not in page]
        assert not missing, f"{family.value}: {missing}"
