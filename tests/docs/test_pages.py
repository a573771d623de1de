"""The pages of the documentation lead where they say, and list what there is."""

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


def test_the_readme_lists_every_component():
    table = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Components")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (\w+?)(?:e?s)? \|(.*)$", table, re.MULTILINE))
    for family in Family:
        row = next(text for name, text in rows.items() if family.value.startswith(name))
        missing = [entry.name for entry in registry().entries(family) if f"`{entry.name}`" not in row]
        assert not missing, f"{family.value}: {missing}"
