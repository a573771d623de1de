"""Methods whose long step was broken off by Ctrl-C: they say how to go on, and do."""

import pytest

import torchplug
from small_fits import regression
from torchplug import use
from torchplug.many.training import ManyTraining

CONFIG = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}


@pytest.mark.parametrize("name", ["cross_validate", "learning_curve"])
def test_it_says_how_to_go_on(tmp_path, monkeypatch, name):
    method = getattr(torchplug, name)
    options = {
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "tracking": {"mode": "disabled"},
        "root": tmp_path,
        "repeats": 1,
    }

    def broken_off(training):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ManyTraining, "run", broken_off)
        with pytest.raises(KeyboardInterrupt, match="go on with resume='"):
            method(CONFIG, regression(), **options)
    (directory,) = (tmp_path / name).iterdir()
    assert method(CONFIG, regression(), resume="last", **options).run.path == directory
