import pytest

from torchplug.errors import ConfigurationError
from torchplug.tracking.choices import chosen, spell_for_wandb
from torchplug.tracking.settings import Tracking


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("MODE", "DISABLED", "PROJECT", "RUN_ID", "RUN_GROUP", "NAME"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)


@pytest.mark.parametrize(
    ("variable", "mode"),
    [
        ("OFFLINE", "offline"),
        (" dryrun ", "offline"),
        ("Online", "online"),
        ("run", "online"),
        ("Disabled", "disabled"),
        ("", "auto"),
        (" ", "auto"),
    ],
)
def test_spellings_of_the_mode(monkeypatch, variable, mode):
    monkeypatch.setenv("WANDB_MODE", variable)
    assert chosen(Tracking()).mode == mode
    assert chosen(Tracking(mode="offline")).mode == "offline"


@pytest.mark.parametrize("variable", ["nonsense", "shared", "0"])
def test_a_mode_that_means_nothing(monkeypatch, variable):
    monkeypatch.setenv("WANDB_MODE", variable)
    with pytest.raises(ConfigurationError, match=r"WANDB_MODE=.* is one of online, run, offline, dryrun, disabled"):
        chosen(Tracking())


def test_disabled_by_its_own_variable(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    for value in ("true", "True", "1", "yes", "ON"):
        monkeypatch.setenv("WANDB_DISABLED", value)
        assert chosen(Tracking()).mode == "disabled"
        assert chosen(Tracking(mode="offline")).mode == "offline"
    for value in ("false", "0", ""):
        monkeypatch.setenv("WANDB_DISABLED", value)
        assert chosen(Tracking()).mode == "online"
    monkeypatch.setenv("WANDB_DISABLED", "perhaps")
    with pytest.raises(ConfigurationError, match="WANDB_DISABLED=perhaps"):
        chosen(Tracking())


def test_the_project(monkeypatch):
    assert chosen(Tracking()).project == "torchplug"
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    assert chosen(Tracking()).project == "mine"
    assert chosen(Tracking(project="given")).project == "given"


@pytest.mark.parametrize("setting", ["project", "id", "group", "name"])
@pytest.mark.parametrize("value", ["", "  ", " a", "x" * 129, "a\x1b[2J", "a\nb"])
def test_names_that_wandb_refuses(setting, value):
    with pytest.raises(ConfigurationError, match=f"--tracking.{setting}"):
        chosen(Tracking(**{setting: value}))


@pytest.mark.parametrize("setting", ["project", "id"])
@pytest.mark.parametrize("value", ["a/b", "../..", "a#b", "a?b", "a:b", "a\\b", "50%"])
def test_characters_that_wandb_refuses(monkeypatch, setting, value):
    with pytest.raises(ConfigurationError, match="W&B refuses"):
        chosen(Tracking(**{setting: value}))
    monkeypatch.setenv({"project": "WANDB_PROJECT", "id": "WANDB_RUN_ID"}[setting], value)
    with pytest.raises(ConfigurationError, match=r"WANDB_.* in the environment"):
        chosen(Tracking())


@pytest.mark.parametrize("tag", ["", "x" * 65])
def test_tags(tag):
    with pytest.raises(ConfigurationError, match="1 to 64 characters"):
        chosen(Tracking(tags=["good", tag]))


def test_what_it_refuses_wandb_refuses_too():
    import wandb

    for setting, values in {"project": ["a/b", "x" * 129], "run_id": ["a/b", "", " a"]}.items():
        for value in values:
            with pytest.raises(Exception, match=r"(?i)invalid|cannot"):
                wandb.Settings(**{setting: value})


def test_wandb_reads_the_spelling(monkeypatch):
    import os

    monkeypatch.setenv("WANDB_MODE", "OFFLINE")
    spell_for_wandb()
    assert os.environ["WANDB_MODE"] == "offline"
    monkeypatch.setenv("WANDB_MODE", "")
    spell_for_wandb()
    assert "WANDB_MODE" not in os.environ
    spell_for_wandb()
