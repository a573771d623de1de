"""A note tells when the code in use is not the code that made a checkpoint."""

import importlib
import shutil
import sys

import pytest
import torch

import torchplug
from torchplug.errors import UnknownComponentError
from torchplug.registry import registry


@pytest.fixture
def checkpoint(run, tmp_path):
    """Train, and let the checkpoint say that other versions made it."""
    line = ["fit", "--trainer.max_epochs", "1", "--model.loss", "torchplug-robust:huber"]
    assert run(line)[0] == 0
    (file,) = tmp_path.glob("runs/*/*/checkpoints/last.ckpt")

    def changed(**versions):
        content = torch.load(file, weights_only=True)
        content["torchplug"]["version"] = versions.get("torchplug", content["torchplug"]["version"])
        for component in content["torchplug"]["components"]:
            component["version"] = versions.get(component["distribution"].replace("-", "_"), component["version"])
        torch.save(content, file)
        return str(file)

    return changed


@pytest.mark.parametrize("subcommand", ["fit --trainer.max_epochs 2", "validate", "test", "predict"])
def test_other_versions(run, checkpoint, subcommand):
    file = checkpoint(torchplug="0.0.7", torchplug_robust="9.9")
    status, printed, _ = run([*subcommand.split(), "--ckpt_path", file])
    assert status == 0
    assert "note: the checkpoint was made with torchplug 0.0.7, and " in printed
    assert "note: the checkpoint was made with torchplug-robust 9.9, and " in printed


def test_equal_versions(run, checkpoint):
    _, printed, _ = run(["validate", "--ckpt_path", checkpoint()])
    assert "was made with" not in printed


@pytest.fixture
def of_acme(distributions, run, tmp_path):
    """Train with a plugin's loss, and then install another version of the plugin, or none."""
    distributions.module("acme_parts", "from torchplug.components.builtin.losses import MSE\nclass Acme(MSE): ...\n")
    distributions.offer("acme", ("losses", "acme", "acme_parts:Acme"), version="1.5")
    assert run(["fit", "--trainer.max_epochs", "1", "--model.loss", "acme"])[0] == 0
    (file,) = tmp_path.glob("runs/*/*/checkpoints/last.ckpt")

    def replaced(*offers, version):
        shutil.rmtree(distributions.folder / "acme-1.5.dist-info")
        sys.modules.pop("acme_plugin")
        (distributions.folder / "acme_plugin.py").unlink()
        if offers:
            distributions.offer("acme", *offers, version=version)
        importlib.invalidate_caches()
        registry.cache_clear()
        return str(file)

    return replaced


def test_a_missing_plugin_is_named_with_the_version_to_install(run, of_acme):
    file = of_acme(version=None)
    status, _, errors = run(["validate", "--ckpt_path", file])
    assert status == 2
    assert "it was made with acme:acme (loss) of acme 1.5, which is not installed: pip install acme==1.5" in errors
    assert errors.count("\n") == 1
    with pytest.raises(UnknownComponentError, match=r"pip install acme==1\.5"):
        torchplug.load(file)


def test_a_version_without_the_component_is_named_with_the_one_to_install(run, of_acme):
    file = of_acme(("losses", "another", "acme_parts:Acme"), version="2.0")
    status, _, errors = run(["validate", "--ckpt_path", file])
    assert status == 2
    assert "made with acme 1.5, and 2.0 is installed: pip install acme==1.5" in errors


def test_loading_in_python_warns_of_another_version(of_acme):
    file = of_acme(("losses", "acme", "acme_parts:Acme"), version="2.0")
    with pytest.warns(UserWarning, match=r"was made with acme 1\.5, and 2\.0 is installed") as caught:
        torchplug.load(file)
    assert len(caught) == 1


def test_a_plugin_that_may_not_load_is_named_with_the_reason(run, checkpoint, monkeypatch):
    file = checkpoint()
    monkeypatch.setenv("TORCHPLUG_BLOCKED_PLUGINS", "torchplug-robust")
    registry.cache_clear()
    try:
        status, _, errors = run(["validate", "--ckpt_path", file])
    finally:
        registry.cache_clear()
    assert status == 2
    assert "it was made with torchplug-robust:huber (loss) of torchplug-robust " in errors
    assert "is blocked by TORCHPLUG_BLOCKED_PLUGINS" in errors
    assert errors.count("\n") == 1
