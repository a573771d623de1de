"""What is registered of the installed libraries, without importing them."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from torchplug import Family
from torchplug_zoo import catalogue
from torchplug_zoo.catalogue import DATA, components, installed_version, offers
from torchplug_zoo.declared import GROUPS, INTERVALS, LICENSES, TARGETS
from torchplug_zoo.libraries import LIBRARIES, in_words
from torchplug_zoo.sources import first_sentence

FAMILIES = (Family.LOSS, Family.OPTIMIZER, Family.SCHEDULER)
INSTALLED = [library for library in LIBRARIES if installed_version(library)]
STORED = json.loads(DATA.read_text(encoding="utf-8"))


def of(family: Family) -> dict[str, object]:
    return {component.name: component for component in components(family)}


@pytest.mark.parametrize("library", INSTALLED, ids=lambda library: library.key)
def test_the_data_file_is_what_the_sources_say(library):
    if STORED[library.key]["version"] != installed_version(library):
        pytest.skip(f"the file is of {library.distribution} {STORED[library.key]['version']}")
    found = {name: list(offer) for name, offer in offers(library, {}).items()}
    assert found == STORED[library.key]["offers"], "renew it: python plugins/torchplug-zoo/renew.py"


def test_names_begin_with_the_library():
    for family in FAMILIES:
        for name in of(family):
            assert name.partition("_")[0] in {library.prefix for library in LIBRARIES}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ReduceLROnPlateau", "reduce_lr_on_plateau"),
        ("OneCycleLR", "one_cycle_lr"),
        ("SmoothL1Loss", "smooth_l1_loss"),
        ("BCEWithLogitsLoss", "bce_with_logits_loss"),
        ("get_wsd", "get_wsd"),
    ],
)
def test_classes_in_words(name, expected):
    assert in_words(name) == expected


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("Lion. It is fast.", "Lion"),
        ("Decays the rate\n    of each group. Else nothing.", "Decays the rate of each group"),
        ("Schedule-Free\n    As the name suggests", "Schedule-Free"),
        ("Uses :class:`Adam` and ``step``.\n\nMore.", "Uses Adam and step"),
        ("", ""),
    ],
)
def test_first_sentence(docstring, expected):
    assert first_sentence(docstring) == expected


def test_every_declaration_is_of_a_component_of_the_file():
    known = {library.name(name) for library in LIBRARIES for name in STORED.get(library.key, {"offers": {}})["offers"]}
    for names in (GROUPS, INTERVALS, LICENSES, TARGETS):
        assert set(names) <= known


def test_all_of_torch_is_there():
    assert {"torch_adamw", "torch_lbfgs", "torch_rmsprop", "torch_sgd"} <= set(of(Family.OPTIMIZER))
    assert len([name for name in of(Family.OPTIMIZER) if name.startswith("torch_")]) >= 13
    assert {"torch_one_cycle_lr", "torch_reduce_lr_on_plateau"} <= set(of(Family.SCHEDULER))
    assert {"torch_huber_loss", "torch_cross_entropy_loss"} <= set(of(Family.LOSS))


def test_licenses_that_are_not_permissive_are_named():
    for name, license in LICENSES.items():
        if name in of(Family.OPTIMIZER):
            assert of(Family.OPTIMIZER)[name].summary.endswith(f"({license})")


def test_summaries_are_one_short_line():
    for family in FAMILIES:
        for component in components(family):
            assert 0 < len(component.summary) <= 80


def test_another_version_is_read_from_its_sources(monkeypatch):
    expected = components(Family.OPTIMIZER)
    other = {key: {**of, "version": "0.0"} for key, of in STORED.items()}
    other["torch optimizers"]["offers"] = dict(list(STORED["torch optimizers"]["offers"].items())[:3])
    monkeypatch.setattr(catalogue, "stored", lambda: other)
    assert components(Family.OPTIMIZER) == expected


def test_a_library_that_is_not_installed_offers_nothing(monkeypatch):
    def absent(distribution):
        if distribution == "torch":
            return version(distribution)
        raise catalogue.PackageNotFoundError(distribution)

    monkeypatch.setattr(catalogue, "version", absent)
    assert {name.partition("_")[0] for name in of(Family.OPTIMIZER)} == {"torch"}


def test_listing_imports_no_library():
    program = (
        "import sys; from torchplug.registry import registry; registry().entries(); "
        "print([name for name in ('torch', 'pytorch_optimizer', 'schedulefree', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
