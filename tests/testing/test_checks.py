"""Each check catches the fault that is planted for it, and says so."""

import re
from pathlib import Path

import pytest
import torch

from planted import PLANTED
from torchplug.registry import registry
from torchplug.testing import checks, run, subject
from torchplug.testing.distributions import Distributions, forget

BY_NAME = {check.name: check for check in checks()}


@pytest.fixture(scope="module", autouse=True)
def planted(tmp_path_factory):
    """The distribution of faulty components, installed."""
    folder = tmp_path_factory.mktemp("site")
    Distributions(folder).metadata("planted", entry_points="[torchplug]\nplanted = planted\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TORCHPLUG_PLUGINS", raising=False)
        patch.syspath_prepend(str(folder))
        forget(folder)
        yield
    forget(folder)


def cases():
    """A fault for each check; those on CUDA and the slow ones are marked."""
    for name, fault in PLANTED.items():
        marks = [pytest.mark.gpu] if "cuda" in name else []
        marks += [pytest.mark.slow] if BY_NAME[name].costly else []
        yield pytest.param(fault, id=name, marks=marks)


@pytest.mark.parametrize("fault", list(cases()))
def test_a_check_catches_its_fault(fault):
    component = subject(registry().find(fault.family, f"planted:{fault.check}"), fault.parameters)
    found = run(BY_NAME[fault.check], component)
    assert found.outcome == "failed", found
    assert fault.reason in found.reason
    assert len(found.reason.splitlines()) == 1
    assert torch.get_default_dtype() is torch.float32


def test_every_check_has_a_fault():
    assert set(PLANTED) == set(BY_NAME)


def test_there_are_checks_enough_of_every_family():
    assert len(BY_NAME) > 60


def test_the_documentation_lists_every_check():
    page = (Path(__file__).parents[2] / "docs" / "testing_plugins.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?)( \(slow\))? \|$", page.partition("## The checks")[2], re.MULTILINE)
    documented = {name: (summary, bool(slow)) for name, summary, slow in rows}
    assert documented == {check.name: (check.summary, check.costly) for check in checks()}
