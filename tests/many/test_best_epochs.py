"""`fit_many` with the best epoch of each model: that of best.ckpt of its own fit."""

import copy

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

import torchplug
from many.interrupting import assert_same_bits, interrupted_after
from many.single_fits import FOLDS, WITHIN, data
from torchplug import fit_many, use
from torchplug.errors import CheckpointError, ConfigurationError

OFF = {"mode": "disabled"}
MLP = use("mlp", hidden=[12], activation="tanh")
STOPPING = {"callbacks": EarlyStopping("val/loss", patience=3)}


def configs(model=MLP, **common):
    """Rates so large that the last epoch is not the best."""
    return [{"model": model, "optimizer": use("adam", lr=lr), "seed": i, **common} for i, lr in enumerate((0.2, 0.05))]


CASES = {
    "one program": (configs(), {}),
    "some stop early": (configs(), STOPPING),
    "dropout": (configs(use("mlp", hidden=[8], dropout=0.2)), {}),
    "batch normalization": (configs(use("mlp", hidden=[8], batch_norm=True)), {}),
    "one by one": (configs(steps_per_execution=2), {}),
    "full batch": ([{"model": use("linear"), "optimizer": "closed_form"}], {}),
}


@pytest.fixture
def fit(tmp_path):
    def fitted(chosen, folder="runs", **options):
        trainer = {"accelerator": "cpu", "max_epochs": 12, "precision": "64-true", **options.pop("trainer", {})}
        options = {"tracking": OFF, "root": tmp_path / folder, "epoch": "best", **options}
        return fit_many(chosen, data(batch_size=10), trainer=trainer, **options)

    return fitted


@pytest.mark.parametrize("case", CASES)
def test_each_model_is_the_best_checkpoint_of_its_own_fit(tmp_path, fit, case):
    chosen, trainer = CASES[case]
    of_last = []
    for result, given in zip(fit(chosen, trainer=trainer), chosen, strict=True):
        config = {name: value for name, value in given.items() if name != "seed"}
        options = {
            "trainer": {"accelerator": "cpu", "max_epochs": 12, "precision": "64-true", **copy.deepcopy(trainer)}
        }
        options |= {"tracking": OFF, "root": tmp_path / "single", "seed": given.get("seed", 0)}
        own = torchplug.fit(config, data(batch_size=10), **options)
        best = torchplug.load(own.run.best)
        for name, value in best.network.state_dict().items():
            torch.testing.assert_close(
                result.module.network.state_dict()[name], value, rtol=WITHIN["64-true"], atol=WITHIN["64-true"]
            )
        logged = own.run.metrics.filter(own.run.metrics["val/loss"].is_not_null())
        row = logged.sort("val/loss", maintain_order=True).row(0, named=True)
        for name in ("val/loss", "val/rmse"):
            assert result.metrics[name] == pytest.approx(row[name], rel=1e-6)
        of_last.append(row["epoch"] == own.run.outcome["epochs"] - 1)
    assert case == "full batch" or not all(of_last), "some best epoch is not the last"


@pytest.mark.parametrize("case", ["one program", "some stop early", "one by one"])
def test_after_ctrl_c_the_best_epochs_are_those_of_a_fit_that_was_not_interrupted(tmp_path, fit, case):
    chosen, trainer = CASES[case]
    whole = fit(chosen, "whole", trainer=trainer)
    with interrupted_after(10, tmp_path / "part"):
        fit(chosen, "part", trainer=trainer)
    resumed = fit(chosen, "part", trainer=trainer, ckpt_path="last")
    assert_same_bits(resumed, whole)
    assert_same_bits(fit(chosen, "part", trainer=trainer, ckpt_path="last"), whole)


def test_models_that_have_stopped_and_are_left_out_of_the_program_keep_their_best(fit):
    chosen = [{"model": MLP, "optimizer": use("adam", lr=lr)} for lr in (0.3, 0.2, 1e-4)]
    together = fit(chosen, trainer={"callbacks": EarlyStopping("val/loss", patience=1), "max_epochs": 25})
    alone = [
        fit([one], "alone", trainer={"callbacks": EarlyStopping("val/loss", patience=1), "max_epochs": 25})[0]
        for one in chosen
    ]
    assert {result.outcome.reason.startswith("stopped") for result in together} == {True, False}
    for mine, its in zip(together, alone, strict=True):
        assert mine.metrics["val/loss"] == pytest.approx(its.metrics["val/loss"], rel=1e-9)
        assert mine.metrics["val/rmse"] == pytest.approx(its.metrics["val/rmse"], rel=1e-6)


def test_without_validation_the_last_epoch_is_the_best(fit):
    folds = [(FOLDS[0][0], [])]
    best, last = (fit(configs(), epoch=epoch, tracking=None, folds=folds)[0].module for epoch in ("best", "last"))
    assert all(map(torch.equal, best.network.parameters(), last.network.parameters()))


def test_refused(fit):
    with pytest.raises(ConfigurationError, match="epoch is last or best, not 'first'"):
        fit(configs(), epoch="first")
    with pytest.raises(ConfigurationError, match="give tracking"):
        fit(configs(steps_per_execution=2), tracking=None)
    fit(configs())
    with pytest.raises(CheckpointError, match="keeps the best epoch of its models, not the last"):
        fit(configs(), ckpt_path="last", epoch="last")
