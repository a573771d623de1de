"""Which plugins may load, by the environment and by pyproject.toml."""

from __future__ import annotations

import pytest

from torchplug.cli import main
from torchplug.errors import ConfigurationError
from torchplug.registry.discovery import discover
from torchplug.registry.permissions import ALLOW_LIST, BLOCK_LIST, Permissions

OFFER = ("losses", "good_loss", "nowhere:Loss")


@pytest.fixture
def status(distributions, tmp_path, monkeypatch):
    """The status of two plugins, for a pyproject.toml above the working directory, and environment variables."""
    distributions.offer("one", OFFER)
    distributions.offer("two", OFFER)
    inner = tmp_path / "project" / "deep" / "er"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)

    def found(settings="", **environment):
        if settings:
            (tmp_path / "project" / "pyproject.toml").write_text(settings, encoding="utf-8")
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        plugins = {plugin.distribution: plugin for plugin in discover()}
        assert plugins["torchplug"].status == "loaded"
        return plugins["one"].status, plugins["two"].status

    return found


@pytest.mark.parametrize(
    ("settings", "environment", "expected"),
    [
        ("", {}, ("loaded", "loaded")),
        ("[project]\nname = 'torchplug-user'", {}, ("loaded", "loaded")),
        ("[tool.torchplug]\nplugins = ['one']", {}, ("loaded", "blocked")),
        ("[tool.torchplug]\nplugins = []", {}, ("blocked", "blocked")),
        ("[tool.torchplug]\nblocked_plugins = ['One']", {}, ("blocked", "loaded")),
        ("[tool.torchplug]\nplugins = ['one', 'two']\nblocked_plugins = ['one']", {}, ("blocked", "loaded")),
        ("", {BLOCK_LIST: " two, "}, ("loaded", "blocked")),
        ("", {ALLOW_LIST: "one,two", BLOCK_LIST: "two"}, ("loaded", "blocked")),
        ("[tool.torchplug]\nplugins = ['one']", {ALLOW_LIST: "two"}, ("blocked", "loaded")),
        ("[tool.torchplug]\nblocked_plugins = ['one']", {BLOCK_LIST: ""}, ("loaded", "loaded")),
        ("[tool.torchplug]\nblocked_plugins = ['one']", {ALLOW_LIST: "one"}, ("blocked", "blocked")),
    ],
)
def test_lists(status, settings, environment, expected):
    assert status(settings, **environment) == expected


def test_the_nearest_file_counts(status, tmp_path):
    (tmp_path / "project" / "deep" / "pyproject.toml").write_text("[tool.torchplug]\nblocked_plugins = ['two']")
    assert status("[tool.torchplug]\nblocked_plugins = ['one']") == ("loaded", "blocked")


def test_where_the_list_stands_is_said(status, tmp_path):
    status("[tool.torchplug]\nplugins = ['one', 'absent']")
    file = tmp_path / "project" / "pyproject.toml"
    troubles = {plugin.distribution: plugin.trouble for plugin in discover()}
    assert troubles["two"] == f"two 1.0 is blocked by tool.torchplug.plugins of {file}"
    assert troubles["absent"] == f"absent is named by tool.torchplug.plugins of {file} but is no installed plugin"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[tool.torchplug\n", "is malformed: "),
        ("tool.torchplug = 3", "tool.torchplug must be a table"),
        ("[tool.torchplug]\nplugin = []", "has no key 'plugin': did you mean plugins?"),
        ("[tool.torchplug]\nxyzzy = []", "has no key 'xyzzy': keys are plugins, blocked_plugins, check"),
        ("[tool.torchplug]\nplugins = 'one'", "plugins must be a list of distributions"),
        ("[tool.torchplug]\nblocked_plugins = [1]", "blocked_plugins must be a list of distributions"),
        ("[tool.torchplug]\nblocked_plugins = ['torchplug']", "built-in components cannot be blocked"),
    ],
)
def test_a_malformed_file_is_one_line(status, capsys, tmp_path, settings, message):
    with pytest.raises(ConfigurationError) as caught:
        status(settings)
    assert message in str(caught.value)
    assert str(tmp_path / "project" / "pyproject.toml") in str(caught.value)
    capsys.readouterr()
    assert main(["plugins"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_others_files_are_not_read(status):
    assert status("not = [toml") == ("loaded", "loaded")


def test_without_lists_everything_may_load(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ALLOW_LIST, raising=False)
    assert Permissions.current().refusal("anything") is None
