"""Every attack on discovery has its outcome in one line, and stops neither the command nor the other plugins."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import pytest

import registry_attacks as attacks
from torchplug import Family
from torchplug.cli import main
from torchplug.registry import foreign_code, registry


@pytest.fixture
def command(distributions, capsys):
    """Run a command beside a plugin that loads after all others, which it must not lose."""
    distributions.offer("zz-bystander", ("losses", "bystander", "nowhere:Loss"))

    def ran(*arguments):
        registry.cache_clear()
        status = main(["list", "--json"])
        listed = json.loads(capsys.readouterr().out)
        assert status == 0
        assert "zz-bystander:bystander" in {one["qualified_name"] for one in listed}
        status = main(list(arguments))
        return status, *capsys.readouterr()

    return ran


@pytest.fixture
def offer(distributions):
    """Install an attack: the plugin's module, and its target's."""

    def offered(plugin=attacks.GOOD, target=None):
        if plugin is None:
            distributions.metadata("p-attack", entry_points="[torchplug]\nx = attack\n")
        else:
            distributions.add("p-attack", plugin, module="attack")
        if target is not None:
            distributions.module("attack_t", target)

    return offered


@pytest.mark.parametrize("name", attacks.DISCOVERED)
def test_broken_plugins(offer, command, name):
    plugin, line = attacks.DISCOVERED[name]
    offer(plugin)
    status, _, errors = command("list")
    assert status == 0
    assert errors.startswith("torchplug: warning: p-attack 1.0 is broken: ")
    assert line in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("name", attacks.SIGNATURES)
def test_signatures(offer, command, name):
    signature, shown = attacks.SIGNATURES[name]
    offer(target=attacks.loss(signature))
    status, out, errors = command("describe", "attack")
    if shown.startswith("error: "):
        assert (status, out) == (2, "")
        assert shown.removeprefix("error: ") in errors
        assert errors.count("\n") == 1
    else:
        assert (status, errors) == (0, "")
        assert shown in out.replace("\n        'NoSuchType'", " 'NoSuchType'")
        entry = registry().find(Family.LOSS, "attack")
        if not any(one.default is one.empty for one in registry().parameters(entry).values()):
            registry().resolve(Family.LOSS, "attack").build()


@pytest.mark.parametrize("name", attacks.DOCSTRINGS)
def test_docstrings(offer, command, name):
    docstring, shown = attacks.DOCSTRINGS[name]
    offer(target=attacks.loss(docstring=docstring))
    status, out, errors = command("describe", "attack")
    assert (status, errors) == (0, "")
    assert shown in out.replace("\n        ", " ") or shown in out
    assert len(out) < 5000


@pytest.mark.parametrize("name", attacks.TARGETS)
def test_targets(offer, command, run, name):
    source, described, trained = attacks.TARGETS[name]
    offer(target=source)
    status, _, errors = command("describe", "attack")
    assert (status, errors.count("\n")) == ((2, 1) if described else (0, 0))
    assert (described or "") in errors
    status, _, errors = run(["fit", "--model.loss", "attack", "--trainer.max_epochs", "1"])
    assert status == 2
    assert (described or trained) in errors
    assert "p-attack" in errors
    assert errors.count("\n") == 1


def test_two_owners_of_a_name(distributions, command):
    for owner in ("p-one", "p-two"):
        distributions.offer(owner, ("losses", "same", "nowhere:X"))
    assert command("describe", "same")[0::2] == (
        2,
        "torchplug: error: loss 'same' is offered by p-one:same and p-two:same: use a qualified name\n",
    )


def test_a_built_in_s_name(distributions, command):
    distributions.offer("p-shadow", ("losses", "mse", "nowhere:X"))
    status, out, _ = command("describe", "mse")
    assert status == 0
    assert out.startswith("mse (loss, torchplug ")


def test_entry_points_that_cannot_be_read(distributions, command):
    distributions.metadata("p-garbage", entry_points="[torchplug]\nx == !!\n[[\n")
    assert (
        "p-garbage 1.0 is broken: its entry_points.txt cannot be read: a line has not the form name = module\n"
        in command("list")[2]
    )


def test_an_entry_point_to_nothing(distributions, command):
    distributions.module("attack", attacks.GOOD)
    distributions.metadata("p-attack", entry_points="[torchplug]\nx = attack:nothing\n")
    assert "import of attack:nothing failed: AttributeError: module 'attack' has no attribute" in command("list")[2]


def test_entry_points_of_one_name(distributions, command):
    for owner in ("p_one", "p_two"):
        distributions.module(owner, attacks.offering(f"Component('{owner}', 'nowhere:X', 'a loss')"))
        distributions.metadata(owner, entry_points=f"[torchplug]\nx = {owner}\n")
    _, out, errors = command("list", "p_*")
    assert [line.split()[1] for line in out.splitlines()[1:]] == ["p_one", "p_two"]
    assert errors == ""


def test_two_entry_points_with_the_same_component(distributions, command):
    for module in ("one", "two"):
        distributions.module(f"attack_{module}", attacks.GOOD)
    distributions.metadata("p-attack", entry_points="[torchplug]\nx = attack_one\ny = attack_two\n")
    assert (
        "p-attack 1.0 is broken: its entry point attack_two repeats the loss attack of another\n" in command("list")[2]
    )


def test_control_characters_in_a_summary(offer, command):
    offer(attacks.offering('Component("a", "x:y", "bell \\x1b[31mred\\x1b[0m \\x07")'))
    assert "\x1b" not in command("list", "--filter", "bell")[1]
    assert "bell \\x1b[31mred" in command("list", "--filter", "bell")[1]


def test_a_generator_of_components(offer, command):
    offer(attacks.returning(f"(one for one in [{attacks.ATTACK}])"))
    assert [line.split()[1] for line in command("list", "--filter", "attack")[1].splitlines()[1:]] == ["attack"]


def test_what_is_printed_at_import_is_no_part_of_the_output(offer, command):
    offer(f"print('HELLO')\n{attacks.GOOD}", f"print('HELLO')\n{attacks.loss()}")
    _, out, errors = command("describe", "attack", "--json")
    assert json.loads(out)[0]["name"] == "attack"
    assert "HELLO" in errors


@pytest.mark.parametrize("where", ["plugin", "target"])
def test_changed_global_state(offer, command, where):
    changes = """
        import os, random, torch, warnings
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(123)
        torch.set_num_threads(torch.get_num_threads() + 1)
        warnings.filterwarnings("ignore"); random.seed(1); os.chdir("/")
        """
    changes = textwrap.dedent(changes)
    sources = {"plugin": (changes + attacks.GOOD, attacks.loss()), "target": (attacks.GOOD, changes + attacks.loss())}
    offer(*sources[where])
    status, _, errors = command("describe", "attack")
    assert status == 0
    assert errors == (
        "torchplug: note: p-attack 1.0 changed the working directory, warning filters, Python's random generator, "
        "torch's random generator, torch's default dtype, torch's thread count when it was imported, which has been "
        "restored\n"
    )


@pytest.mark.parametrize("where", ["plugin", "target"])
def test_slow_imports_are_named_while_they_last(offer, distributions, capsys, monkeypatch, where):
    monkeypatch.setattr(foreign_code, "PATIENCE", 0.05)
    monkeypatch.setenv("TORCHPLUG_PLUGINS", "p-attack")  # on a busy machine others may take as long
    wait = "import time; time.sleep(0.5)\n"
    sources = {"plugin": (wait + attacks.GOOD, attacks.loss()), "target": (attacks.GOOD, wait + attacks.loss())}
    offer(*sources[where])
    named = {"plugin": "attack", "target": "attack_t:X"}[where]
    assert main(["describe", "attack"]) == 0
    remedy = "TORCHPLUG_BLOCKED_PLUGINS=p-attack leaves it out"
    line = f"torchplug: p-attack 1.0 has been importing {named} for 0.05 s; {remedy}"
    assert capsys.readouterr().err.splitlines().count(line) == 1


def test_a_hang_is_named_and_ctrl_c_ends_it(distributions, monkeypatch):
    distributions.add("p-hang", "import time; time.sleep(600)", module="attack_hang")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(distributions.folder), *filter(None, sys.path)]))
    with subprocess.Popen(
        [sys.executable, "-m", "torchplug", "list"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert "p-hang 1.0 has been importing attack_hang for 2 s" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == "torchplug: interrupted\n"
    assert process.returncode == 130


def test_ending_the_process_is_refused(distributions):
    distributions.add("p-osexit", "import os; os._exit(3)", module="attack_exit")
    completed = distributions.run("-m", "torchplug", "list")
    assert completed.returncode == 0
    assert "adam" in completed.stdout
    assert "p-osexit 1.0 is broken: import of attack_exit failed: SystemExit: os._exit(3)" in completed.stderr


def test_a_table_has_every_attack():
    tables = (attacks.DISCOVERED, attacks.SIGNATURES, attacks.DOCSTRINGS, attacks.TARGETS)
    assert sum(map(len, tables)) == 82  # the other thirteen are above
