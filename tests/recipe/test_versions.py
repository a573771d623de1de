"""A note tells when the code in use is not the code that made a checkpoint."""

import importlib
import shutil
import sys
import warnings
from pathlib import Path

import lightning
import pytest
import torch

import torchplug
from torchplug import ComponentModule, TabularData, use
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
    with warnings.catch_warnings(record=True) as caught:
        status, printed, errors = run([*subcommand.split(), "--ckpt_path", file])
    assert status == 0
    assert not [each for each in caught if "was made with" in str(each.message)]
    assert printed.count("note: the checkpoint was made with torchplug 0.0.7, and ") == 1
    assert printed.count("note: the checkpoint was made with torchplug-robust 9.9, and ") == 1
    assert (printed + errors).count("was made with") == 2


def test_equal_versions(run, checkpoint):
    _, printed, _ = run(["validate", "--ckpt_path", checkpoint()])
    assert "was made with" not in printed


def test_a_diagnosis_notes_other_versions_of_its_run(run, checkpoint):
    path = Path(checkpoint(torchplug="0.0.7"))
    shutil.copy(path, path.with_name("best.ckpt"))
    status, printed, _ = run(["diagnose", str(path.parents[1])])
    assert status == 0
    assert printed.count("note: the checkpoint was made with torchplug 0.0.7, and ") == 1


def _lightning(method):
    """A call of Lightning's Trainer, which restores the checkpoint itself."""

    def call(file):
        config = torch.load(file, weights_only=True)["hyper_parameters"]
        quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
        trainer = lightning.Trainer(max_epochs=2, num_sanity_val_steps=0, **dict.fromkeys(quiet, False))
        data = TabularData("diabetes", batch_size=64)
        getattr(trainer, method)(ComponentModule(**config), datamodule=data, ckpt_path=file, weights_only=True)

    return call


def _fit(file):
    config = torch.load(file, weights_only=True)["hyper_parameters"]
    settings = {"max_epochs": 2, "num_sanity_val_steps": 0, "enable_model_summary": False}
    torchplug.fit(
        config, TabularData("diabetes", batch_size=64), trainer=settings, tracking={"mode": "disabled"}, ckpt_path=file
    )


IN_PYTHON = {
    "load": torchplug.load,
    "load_from_checkpoint": lambda file: ComponentModule.load_from_checkpoint(file, weights_only=True),
    "torchplug.fit": _fit,
    **{f"Trainer.{method}": _lightning(method) for method in ("fit", "validate", "test")},
}


@pytest.mark.parametrize("way", IN_PYTHON)
def test_python_warns_of_other_versions_once(checkpoint, way):
    file = checkpoint(torchplug="0.0.7", torchplug_robust="9.9")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        IN_PYTHON[way](file)
    said = [str(each.message) for each in caught if "was made with" in str(each.message)]
    assert [text.partition(", and ")[0] for text in said] == [
        "the checkpoint was made with torchplug 0.0.7",
        "the checkpoint was made with torchplug-robust 9.9",
    ]
    assert {each.category for each in caught if "was made with" in str(each.message)} == {UserWarning}


@pytest.mark.parametrize("way", IN_PYTHON)
def test_python_does_not_warn_of_equal_versions(checkpoint, way):
    file = checkpoint()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        IN_PYTHON[way](file)
    assert not [each for each in caught if "was made with" in str(each.message)]


def test_members_of_an_ensemble_warn_once(tmp_path):
    config = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}
    settings = {"max_epochs": 1, "accelerator": "cpu"}
    configs, data = [{**config, "seed": seed} for seed in range(2)], TabularData("diabetes", batch_size=64)
    results = torchplug.fit_many(configs, data, trainer=settings, tracking={"mode": "disabled"}, root=tmp_path)
    run, file = results[0].run, tmp_path / "ensemble.ckpt"
    torchplug.Ensemble([result.module for result in results]).save_checkpoint(file)
    content = torch.load(file, weights_only=True)
    for member in content["members"]:
        member["torchplug"]["version"] = "0.0.7"
    torch.save(content, file)
    (stacked,) = run.path.rglob("*.ckpt")
    content = torch.load(stacked, weights_only=True)
    content["torchplug"]["version"] = "0.0.7"
    torch.save(content, stacked)
    for arguments in ((file,), (run, 0)):
        with pytest.warns(UserWarning, match=r"was made with torchplug 0\.0\.7, and") as caught:
            torchplug.load(*arguments)
        assert len(caught) == 1


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
