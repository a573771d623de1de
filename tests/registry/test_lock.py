"""Installed files and their hashes, and lock files, with a real wheel's records."""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import tomllib

import pytest

from torchplug.cli import main
from torchplug.errors import ConfigurationError, PluginError
from torchplug.registry.installed import installations
from torchplug.registry.lock import lock, refuse_difference

METADATA = """Metadata-Version: 2.1
Name: Acme
Version: 2.0
Author-email: Jo <jo@example.org>
Project-URL: Repository, https://example.org/source
Project-URL: Homepage, https://example.org
Requires-Dist: torchplug >=99
Requires-Dist: numpy
"""
MODULE = "from torchplug import Component, hookimpl\n@hookimpl\ndef torchplug_losses():\n    return []\n"


@pytest.fixture
def acme(distributions):
    """Install a distribution with its RECORD."""
    contents = {
        "acme_plugin.py": MODULE,
        "acme-2.0.dist-info/METADATA": METADATA,
        "acme-2.0.dist-info/entry_points.txt": "[torchplug]\nacme = acme_plugin\n",
        "acme-2.0.dist-info/INSTALLER": "pip\n",
    }
    (distributions.folder / "acme-2.0.dist-info").mkdir()
    lines = []
    for name, content in contents.items():
        (distributions.folder / name).write_text(content, encoding="utf-8")
        digest = hashlib.sha256(content.encode()).digest()
        lines.append(f"{name},sha256={base64.urlsafe_b64encode(digest).rstrip(b'=').decode()},{len(content)}")
    lines += ["../../bin/acme,sha256=abc,1", "acme-2.0.dist-info/RECORD,,"]
    (distributions.folder / "acme-2.0.dist-info" / "RECORD").write_text("\n".join(lines) + "\n", encoding="utf-8")
    importlib.invalidate_caches()
    return distributions


@pytest.fixture
def locked(acme, tmp_path):
    file = tmp_path / "plugins.lock"
    file.write_text(lock(), encoding="utf-8")
    return file


def test_metadata(acme):
    one = installations()["acme"]
    assert (one.version, one.author, one.home_page) == ("2.0", "Jo <jo@example.org>", "https://example.org")
    assert one.requirement == ">=99"
    assert not one.accepts("0.1")
    assert one.accepts("99.5")


def test_the_hash_is_of_the_wheels_files_alone(acme):
    one = installations()["acme"]
    assert one.altered == ()
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256((acme.folder / name).read_bytes()).digest()).rstrip(b"=").decode()
        for name in ("acme-2.0.dist-info/METADATA", "acme-2.0.dist-info/entry_points.txt", "acme_plugin.py")
    }
    text = "\n".join(f"{name} {digest}" for name, digest in digests.items())
    assert one.hash == f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


@pytest.mark.parametrize("change", ["edit", "remove"])
def test_a_file_that_differs_is_found(acme, change):
    file = acme.folder / "acme_plugin.py"
    file.unlink() if change == "remove" else file.write_text(MODULE + "\n")
    assert installations()["acme"].altered == ("acme_plugin.py",)
    with pytest.raises(
        PluginError, match=r"^acme 2\.0 is not as it was installed \(acme_plugin\.py changed\): pip install"
    ):
        lock()


@pytest.fixture
def in_place(acme, tmp_path, monkeypatch):
    """Make an installation in place of it, as `pip install -e` does; its folder of source is returned."""

    def install(code="src"):
        source = tmp_path / "project"
        package = source / code / "acme_plugin"
        package.mkdir(parents=True)
        (acme.folder / "acme_plugin.py").rename(package / "__init__.py")
        info = acme.folder / "acme-2.0.dist-info"
        (info / "direct_url.json").write_text(json.dumps({"dir_info": {"editable": True}, "url": source.as_uri()}))
        record = (info / "RECORD").read_text().splitlines()
        (info / "RECORD").write_text("\n".join(line for line in record if not line.startswith("acme_plugin.py")))
        monkeypatch.syspath_prepend(str(source / code))
        return source

    return install


CODE = {
    "the code": ("src", "src/acme_plugin/__init__.py"),
    "a new module": ("src", "src/acme_plugin/parts.py"),
    "data of the package": ("src", "src/acme_plugin/data/table.csv"),
    "another package of its source": ("src", "src/acme_parts/losses.py"),
    "the code beside pyproject.toml": (".", "acme_plugin/__init__.py"),
}
NO_CODE = {
    "documentation": ("src", "README.md"),
    "tests beside the code": (".", "tests/test_losses.py"),
    "compiled files": ("src", "src/acme_plugin/__pycache__/parts.pyc"),
    "metadata of setuptools": ("src", "src/acme.egg-info/SOURCES.txt"),
    "hidden files": ("src", "src/acme_plugin/.cache/file"),
}


@pytest.mark.parametrize(
    ("case", "differs"), [*((case, True) for case in CODE.values()), *((case, False) for case in NO_CODE.values())],
    ids=[*CODE, *NO_CODE],
)  # fmt: skip
def test_the_hash_of_an_installation_in_place_is_of_its_code(in_place, case, differs):
    code, changed = case
    source = in_place(code)
    before = installations()["acme"]
    assert before.source == source
    assert before.hash.startswith("sha256:")
    (source / changed).parent.mkdir(parents=True, exist_ok=True)
    with (source / changed).open("a") as file:
        file.write("# changed\n")
    assert (installations()["acme"].hash != before.hash) == differs


def test_it_is_the_same_in_another_folder(in_place, tmp_path, monkeypatch):
    source = in_place()
    before = installations()["acme"].hash
    moved = source.rename(tmp_path / "moved")
    monkeypatch.syspath_prepend(str(moved / "src"))
    assert installations()["acme"].hash == before


def test_a_lock_of_an_installation_in_place_refuses_other_code(in_place, tmp_path, capsys):
    source, file = in_place(), tmp_path / "plugins.lock"
    file.write_text(lock(), encoding="utf-8")
    assert tomllib.loads(file.read_text())["acme"] == {
        "version": "2.0",
        "hash": installations()["acme"].hash,
        "editable": True,
    }
    refuse_difference(file)
    assert main(["plugins"]) == 0
    assert f" of the code in {source}, where it is installed in place\n" in capsys.readouterr().out
    (source / "src" / "acme_plugin" / "__init__.py").write_text("")
    with pytest.raises(PluginError) as caught:
        refuse_difference(file)
    assert str(caught.value) == (
        f"the code of acme 2.0 in {source} is not that of {file}: restore it, or write the file again by "
        "`torchplug lock`"
    )


@pytest.mark.parametrize("points", ["[torchplug]\nx == !!\n[[", "[torchplug]\nx = nowhere\n", ""])
def test_an_installation_in_place_without_code_has_no_hash(acme, in_place, points):
    in_place()
    (acme.folder / "acme-2.0.dist-info" / "entry_points.txt").write_text(f"{points}\n# torchplug")
    one = installations()["acme"]
    assert (one.source is None, one.hash) == (False, None)


def test_an_installation_in_place_does_not_stand_for_a_wheel_nor_the_reverse(acme, in_place, tmp_path):
    wheel, edited = tmp_path / "wheel.lock", tmp_path / "edited.lock"
    wheel.write_text(lock(), encoding="utf-8")
    in_place()
    with pytest.raises(PluginError, match=r"^the code of acme 2\.0 in .* is not that of .*wheel\.lock"):
        refuse_difference(wheel)
    edited.write_text(lock(), encoding="utf-8")
    (acme.folder / "acme-2.0.dist-info" / "direct_url.json").unlink()
    with pytest.raises(PluginError, match=r"are not those of .*: install it in place from the same source, or write"):
        refuse_difference(edited)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"dir_info": {}}', '{"dir_info": 3, "url": 3}'])
def test_other_records_of_origin_are_no_installation_in_place(acme, content):
    (acme.folder / "acme-2.0.dist-info" / "direct_url.json").write_text(content)
    assert installations()["acme"].source is None


def test_files_that_are_not_recorded_are_said_to_be_unpinned(distributions):
    distributions.offer("bare", ("losses", "bare", "nowhere:Loss"))
    entry = lock().partition('["bare"]')[2].partition("[")[0].split("\n")
    assert entry[1:3] == ['version = "1.0"', "# Its files are not recorded: only the version is compared."]


def test_a_lock_file_is_toml_and_agrees_with_what_it_was_made_of(locked):
    content = tomllib.loads(locked.read_text("utf-8"))
    assert content["acme"] == {"version": "2.0", "hash": installations()["acme"].hash}
    assert "torchplug" in content
    refuse_difference(locked)


def _edit(locked, **changes):
    content = tomllib.loads(locked.read_text("utf-8"))
    content["acme"] |= changes
    lines = [
        f"[{name}]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in entry.items()) for name, entry in content.items()
    ]
    locked.write_text("".join(lines), encoding="utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": "1.9"}, "acme 2.0 is installed, and {} has 1.9: pip install acme==1.9"),
        ({"hash": "sha256:0"}, "the files of acme 2.0 are not those of {}: install the same wheel"),
    ],
)
def test_another_version_or_hash_is_refused(locked, changes, message):
    _edit(locked, **changes)
    with pytest.raises(PluginError) as caught:
        refuse_difference(locked)
    assert message.format(locked) in str(caught.value)


def test_changed_files_are_refused(acme, locked):
    (acme.folder / "acme_plugin.py").write_text(MODULE + "\n")
    with pytest.raises(PluginError, match=r"pip install --force-reinstall --no-deps acme==2\.0"):
        refuse_difference(locked)


def test_a_plugin_more_or_less_is_refused(acme, locked, monkeypatch):
    acme.offer("other", ("losses", "other", "nowhere:Loss"))
    with pytest.raises(PluginError, match=r"^other 1\.0 is not in .*: leave it out by TORCHPLUG_BLOCKED_PLUGINS=other"):
        refuse_difference(locked)
    monkeypatch.setenv("TORCHPLUG_BLOCKED_PLUGINS", "other")
    refuse_difference(locked)
    monkeypatch.setenv("TORCHPLUG_BLOCKED_PLUGINS", "other,acme")
    with pytest.raises(PluginError, match=r"^acme 2\.0 of .* is not installed or may not load: pip install acme==2\.0"):
        refuse_difference(locked)


def test_several_differences_are_counted(locked):
    _edit(locked, version="1.9")
    with locked.open("a") as file:
        file.write("[absent]\nversion = '1'\n")
    with pytest.raises(PluginError, match=r"\(1 more differ\)$"):
        refuse_difference(locked)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file or directory; write it by `torchplug lock > "),
        ("[acme", "is no lock file"),
        ("acme = 3", "is malformed at 'acme'"),
        ("[acme]\nhash = 'x'", "is malformed at 'acme'"),
        ("[acme]\nversion = '1'\nextra = 1", "is malformed at 'acme'"),
        ("[acme]\nversion = '1'\neditable = 'yes'", "is malformed at 'acme'"),
        ("", "does not name torchplug itself"),
    ],
)
def test_a_malformed_file_is_one_line(tmp_path, content, message):
    file = tmp_path / "plugins.lock"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        refuse_difference(file)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_locked_plugin_is_not_imported_before_it_is_compared(acme, locked, run):
    acme.add("late", "raise SystemError('it was imported')")
    status, _, errors = run(["fit", "--plugins_lock", str(locked)])
    assert status == 2
    assert "error: late 1.0 is not in " in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("subcommand", ["fit", "validate", "predict", "ladder", "search", "diagnose"])
def test_every_command_of_a_recipe_refuses_a_difference(locked, run, subcommand):
    _edit(locked, version="1.9")
    status, _, errors = run([subcommand, "--plugins_lock", str(locked)])
    assert status == 2
    assert "pip install acme==1.9" in errors


def test_a_fit_with_its_lock_trains_and_its_config_keeps_it(locked, run, tmp_path):
    assert run(["fit", "--plugins_lock", str(locked), "--trainer.max_epochs", "1"])[0] == 0
    (config,) = tmp_path.glob("runs/*/*/config.yaml")
    assert f"plugins_lock: {locked}" in config.read_text()


def test_the_command_prints_it(acme, capsys):
    assert main(["lock"]) == 0
    assert tomllib.loads(capsys.readouterr().out)["acme"]["version"] == "2.0"


def test_plugins_shows_where_one_comes_from(acme, capsys):
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "    by: Jo <jo@example.org> https://example.org\n    needs torchplug: >=99\n    files: sha256:" in out
    (acme.folder / "acme_plugin.py").write_text(MODULE + "\n")
    assert main(["plugins"]) == 0
    assert "    files: changed since the installation: acme_plugin.py\n" in capsys.readouterr().out
