"""`torchplug doctor` names each fault with its remedy, and survives what it examines."""

from __future__ import annotations

import json

import pytest

from torchplug.cli import main

HEAD = "from torchplug import Component, hookimpl\n"
EMPTY = f"{HEAD}@hookimpl\ndef torchplug_losses():\n    return []\n"


@pytest.fixture
def doctor(capfd, monkeypatch):
    def examined(*plugins):
        monkeypatch.setenv("TORCHPLUG_PLUGINS", ",".join(plugins))  # what else is installed is no business of tests
        status = main(["doctor", "--json"])
        out, examined.said = capfd.readouterr()
        findings = json.loads(out)
        return status, {(one["distribution"], one["problem"]): one["remedy"] for one in findings}

    return examined


def test_no_fault(distributions, doctor, capfd):
    distributions.add("acme", EMPTY)
    assert doctor("acme") == (0, {})
    assert main(["doctor"]) == 0
    assert capfd.readouterr().out == "no fault found in 2 plugins\n"


def test_every_kind_of_fault(distributions, doctor):
    distributions.module("acme_parts", "import random\nrandom.seed(1)\ndef loss(a: float = 1.0): ...\n")
    distributions.offer(
        "acme",
        ("losses", "mse", "acme_parts:loss"),
        ("losses", "twin", "acme_parts:loss"),
        ("losses", "lost", "nowhere:loss"),
    )
    distributions.offer("other", ("losses", "twin", "acme_parts:loss"))
    distributions.add("broken", "raise RuntimeError('no luck')")
    distributions.add("slow", f"import time; time.sleep(1.2)\n{EMPTY}")
    metadata = distributions.folder / "slow-1.0.dist-info" / "METADATA"
    metadata.write_text(f"{metadata.read_text()}Requires-Dist: torchplug >=99\n")
    status, found = doctor("acme", "other", "broken", "slow", "absent")
    assert status == 1
    problems = {
        ("slow", "it requires torchplug >=99, and"): "pip install --upgrade torchplug slow",
        ("absent", "TORCHPLUG_PLUGINS names it"): "pip install absent",
        ("broken", "import of broken_plugin failed: RuntimeError: no luck"): "TORCHPLUG_BLOCKED_PLUGINS=broken",
        ("acme", "acme:lost (loss): nowhere:loss cannot be imported"): "update acme, or use another component",
        ("acme", "it changes Python's random generator"): "its author",
        ("slow", "s to load, for which every command waits"): "import heavy modules in targets, not in slow_plugin",
        ("acme", "its loss mse has the name of a built-in one"): "write acme:mse",
        ("acme", "its loss twin is offered by other too"): "write acme:twin or other:twin",
    }
    for (distribution, words), remedy in problems.items():
        matching = [text for (name, problem), text in found.items() if name == distribution and words in problem]
        assert len(matching) == 1, (words, found)
        assert remedy in matching[0]
    assert len(found) == len(problems), found


def test_a_plugin_that_ends_the_process_is_named(distributions, doctor):
    distributions.add("deadly", "import os; os.abort()")
    distributions.add("innocent", EMPTY)
    status, found = doctor("deadly", "innocent")
    assert status == 1
    ((problem, remedy),) = found.items()
    assert problem == ("deadly", "it ends the process while it is loaded (signal 6)")
    assert "TORCHPLUG_BLOCKED_PLUGINS=deadly" in remedy


@pytest.mark.parametrize("module", ["hanging_plugin", "hanging_parts"])
def test_a_plugin_that_hangs_is_named(distributions, doctor, monkeypatch, module):
    """When it is imported, or when its component is."""
    monkeypatch.setattr("torchplug.cli.doctor.PATIENCE", 5.0)
    distributions.offer("hanging", ("losses", "late", "hanging_parts:Loss"))
    distributions.module(module, "import time\ntime.sleep(600)\n")
    distributions.add("broken", "raise RuntimeError('no luck')")
    status, found = doctor("hanging", "broken")
    assert status == 1
    assert found == {
        (name, problem): f"update or uninstall it, or leave it out by TORCHPLUG_BLOCKED_PLUGINS={name}"
        for name, problem in (
            ("hanging", "it does not load with its components within 5 s"),
            ("broken", "import of broken_plugin failed: RuntimeError: no luck"),
        )
    }
    said = "torchplug: plugins do not load together: each is tried by itself, for at most 5 s\n"
    if module == "hanging_plugin":
        slow = f"torchplug: hanging 1.0 has been importing {module} for 2 s"
        said = f"{slow}; TORCHPLUG_BLOCKED_PLUGINS=hanging leaves it out\n{said}"
    assert doctor.said.endswith(said)
