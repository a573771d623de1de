"""The command `torchplug`, in this process and in its own."""

import io
import json
import re
import subprocess
import sys

import pytest

from torchplug import Family, __version__
from torchplug.cli import main

SCHEMA = {"family", "name", "qualified_name", "distribution", "version", "summary", "capabilities", "metric"}
TRAP = "raise RuntimeError('a target was imported')"


def run(capsys, *arguments):
    """Status, output and errors of the command."""
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def acme(distributions):
    """A plugin whose targets must not be imported to list them."""
    distributions.module("acme_trap", TRAP)
    distributions.offer(
        "acme", ("losses", "trap", "acme_trap:Loss"), ("losses", "mse", "acme_trap:Loss"), version="2.0"
    )
    return distributions


class TestList:
    def test_columns_and_rows(self, acme, capsys):
        status, out, _ = run(capsys, "list")
        lines = out.splitlines()
        assert status == 0
        assert lines[0].split() == ["family", "name", "owner", "version", "summary"]
        assert ["optimizer", "adam", "torchplug"] in [line.split()[:3] for line in lines]
        assert ["loss", "trap", "acme", "2.0", "the", "trap"] in [line.split() for line in lines]
        assert ["loss", "acme:mse", "acme"] in [line.split()[:3] for line in lines]

    @pytest.mark.parametrize("name", ["loss", "losses"])
    def test_one_family(self, acme, capsys, name):
        _, out, _ = run(capsys, "list", name)
        assert {line.split()[0] for line in out.splitlines()[1:]} == {"loss"}

    @pytest.mark.parametrize(
        ("words", "names"),
        [
            (["ada*", "optimizers"], {"adam", "adamw"}),
            (["ada*"], {"adam", "adamw"}),
            (["acme:*"], {"trap", "acme:mse"}),
            (["?dam"], {"adam"}),
            (["TRA[pq]"], {"trap"}),
            (["ada*", "losses"], set()),
            (["loss", "ms*", "tra*"], {"mse", "acme:mse", "trap"}),
        ],
    )
    def test_patterns_of_names(self, acme, capsys, words, names):
        status, out, _ = run(capsys, "list", *words)
        assert status == 0
        assert {line.split()[1] for line in out.splitlines()[1:]} == names

    @pytest.mark.parametrize("text", ["trap", "THE TRAP", "acme:tr"])
    def test_filter_looks_at_name_owner_and_summary(self, acme, capsys, text):
        _, out, _ = run(capsys, "list", "--filter", text)
        assert [line.split()[1] for line in out.splitlines()] == ["name", "trap"]

    def test_nothing_found_is_no_error(self, capsys):
        assert run(capsys, "list", "--filter", "xyzzy", "--json")[:2] == (0, "[]\n")
        assert run(capsys, "list", "--filter", "xyzzy")[1].split() == ["family", "name", "owner", "version", "summary"]

    def test_json(self, acme, capsys):
        status, out, _ = run(capsys, "list", "--json")
        components = json.loads(out)
        assert status == 0
        for component in components:
            assert component.keys() == SCHEMA
            assert component["qualified_name"] == f"{component['distribution']}:{component['name']}"
            assert component["family"] in {family.value for family in Family}
        (adam,) = [component for component in components if component["name"] == "adam"]
        assert adam["distribution"] == "torchplug"
        assert adam["version"] == __version__
        assert adam["capabilities"] == ["elementwise", "prox", "update"]

    def test_long_rows_are_never_cut_in_a_pipe(self, distributions, capsys):
        distributions.add(
            "acme",
            "from torchplug import Component, hookimpl\n@hookimpl\ndef torchplug_losses():\n"
            "    return [Component('n' * 80, 'nowhere:Loss', 's' * 500)]",
        )
        out = run(capsys, "list", "losses")[1]
        assert "n" * 80 in out
        assert "s" * 500 in out

    @pytest.mark.parametrize("columns", ["60", "200"])
    def test_a_terminal_gets_a_table_that_fits(self, distributions, capsys, monkeypatch, columns):
        class Terminal(io.StringIO):
            encoding = "utf-8"

            def isatty(self):
                return True

        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("COLUMNS", columns)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("TORCHPLUG_PLUGINS", "")  # others' names may be too long to stay whole
        assert main(["list", "optimizers"]) == 0
        lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
        assert max(map(len, lines)) <= int(columns)
        assert any(line.split()[:3] == ["optimizer", "adam", "torchplug"] for line in lines)

    def test_broken_plugins_are_reported_beside_the_list(self, distributions, capsys):
        distributions.add("bad", "print('hello from bad')\nraise RuntimeError('no luck')")
        status, out, err = run(capsys, "list", "--json")
        assert status == 0
        json.loads(out)
        assert "torchplug: warning: bad 1.0 is broken: import of bad_plugin failed: RuntimeError: no luck" in err
        assert "hello from bad" in err


class TestDescribe:
    def test_page(self, capsys):
        status, out, _ = run(capsys, "describe", "adam")
        assert status == 0
        assert out.startswith(f"adam (optimizer, torchplug {__version__})\n")
        assert "\n    lr: float = 0.001\n" in out
        for part in ("Parameters:", "Reference:", "Kingma", "Capabilities:\n    elementwise, prox, update", "√v̂"):
            assert part in out

    def test_a_metric_says_what_it_goes_with(self, capsys):
        assert (
            "Metric:\n    of scores, for losses of kind binary, margin; best is max"
            in run(capsys, "describe", "auroc")[1]
        )
        (auroc,) = json.loads(run(capsys, "describe", "auroc", "--json")[1])
        assert auroc["metric"] == {"kinds": ["binary", "margin"], "view": "scores", "best": "max"}
        (adam,) = json.loads(run(capsys, "list", "--filter", "torchplug:adamw", "--json")[1])
        assert adam["metric"] is None

    def test_every_family_that_has_the_name_or_the_one_asked_for(self, capsys):
        both = run(capsys, "describe", "l1")[1]
        assert "l1 (loss," in both
        assert "l1 (regularizer," in both
        one = run(capsys, "describe", "l1", "--family", "regularizers")[1]
        assert "l1 (loss," not in one
        assert "l1 (regularizer," in one

    def test_json_is_a_list_of_objects(self, capsys):
        (adam,) = json.loads(run(capsys, "describe", "torchplug:adam", "--json")[1])
        assert adam.keys() == SCHEMA | {"description", "formula", "parameters", "reference", "note", "shape", "raises"}
        (lr,) = [parameter for parameter in adam["parameters"] if parameter["name"] == "lr"]
        assert lr.keys() == {"name", "type", "required", "default", "description", "fixed"}
        assert (lr["type"], lr["required"], lr["default"]) == ("float", False, 0.001)
        assert "> 0" in lr["description"]

    def test_required_parameters_and_missing_documentation(self, distributions, capsys):
        distributions.module("acme_bare", "def bare(scale: float, *, mode='x'): ...")
        distributions.offer("acme", ("losses", "bare", "acme_bare:bare"))
        assert run(capsys, "describe", "bare")[1] == (
            "bare (loss, acme 1.0)\n\nthe bare\n\nParameters:\n    scale: float, required\n    mode: any value = 'x'\n"
        )

    def test_a_target_that_fails_is_one_line(self, acme, capsys):
        status, out, err = run(capsys, "describe", "trap")
        assert (status, out) == (2, "")
        assert err == (
            "torchplug: error: acme 2.0 is broken: acme:trap (loss): acme_trap:Loss cannot be imported: "
            "RuntimeError: a target was imported\n"
        )


class TestPlugins:
    def test_page(self, acme, capsys, monkeypatch):
        acme.add("bad", "raise RuntimeError('no luck')")
        acme.add("other", "raise RuntimeError('imported')")
        monkeypatch.setenv("TORCHPLUG_PLUGINS", "acme,bad,absent")
        status, out, _ = run(capsys, "plugins")
        assert status == 0
        for part in (
            "acme 2.0 loaded\n    torchplug_losses: trap, mse\n",
            "bad 1.0 broken\n    import of bad_plugin failed: RuntimeError: no luck\n",
            "other 1.0 blocked\n    other 1.0 is blocked by TORCHPLUG_PLUGINS\n",
            "absent missing\n    absent is named by TORCHPLUG_PLUGINS but is no installed plugin\n",
        ):
            assert part in out

    def test_json(self, acme, capsys):
        records = json.loads(run(capsys, "plugins", "--json")[1])
        (record,) = [record for record in records if record["distribution"] == "acme"]
        assert record.pop("seconds") >= 0
        assert record == {
            "distribution": "acme",
            "version": "2.0",
            "entry_point": "acme_plugin",
            "status": "loaded",
            "hooks": ["torchplug_losses"],
            "components": [{"family": "loss", "name": "trap"}, {"family": "loss", "name": "mse"}],
            "shares": [{"family": "loss", "name": "mse", "with": ["torchplug"]}],
            "author": "",
            "home_page": "",
            "requires": "",
            "hash": None,
            "source": None,
            "altered": [],
            "changed": [],
            "targets": None,
            "error": None,
            "note": None,
            "trouble": None,
        }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "adma"], "unknown component 'adma': did you mean adam"),
        (["describe", "adam", "--family", "loss"], "unknown loss 'adam': adam is among the optimizers"),
        (["describe", "adam", "--family", "optimiser"], "unknown family 'optimiser': did you mean optimizer?"),
        (["list", "xyzzy"], "unknown family 'xyzzy': families are models, losses"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert err.startswith(f"torchplug: error: {message}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["describe"], ["lst"], ["list", "--jsn"]])
def test_bad_usage_is_one_line_and_status_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    captured = capsys.readouterr()
    assert (caught.value.code, captured.out) == (2, "")
    assert captured.err.startswith("torchplug: error: ")
    assert captured.err.count("\n") == 1


def test_version(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"torchplug {__version__}\n"


def test_listing_imports_neither_torch_nor_targets(acme):
    code = (
        "import sys; from torchplug.cli import main; status = main(['list'])\n"
        "heavy = {'torch', 'lightning', 'numpy', 'jsonargparse', 'rich', 'acme_trap'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else status)"
    )
    completed = acme.run("-c", code)
    assert (completed.returncode, completed.stderr) == (0, "")
    assert "the trap" in completed.stdout


def test_the_module_is_the_command(distributions):
    completed = distributions.run("-m", "torchplug", "describe", "adma")
    assert completed.returncode == 2
    assert completed.stderr.startswith("torchplug: error: unknown component 'adma'")
    assert completed.stderr.count("\n") == 1


def test_a_reader_that_leaves_early_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-m", "torchplug", "list", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


def test_a_terminal_without_greek_letters_gets_the_rest(distributions):
    completed = distributions.run("-m", "torchplug", "list", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
    assert (completed.returncode, completed.stderr) == (0, "")
    assert "adam" in completed.stdout
