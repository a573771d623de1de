"""The run directory of `fit_many`: what is in it, and each model's own checkpoint."""

import json

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

import torchplug
from compared_fits import table
from many.single_fits import FOLDS, data
from torchplug import ComponentModule, TabularData, fit_many, use
from torchplug.errors import CheckpointError, ConfigurationError

OFF = {"mode": "disabled"}
LINEAR, MLP = use("linear"), use("mlp", hidden=[5], activation="tanh")
CONFIGS = [
    {"model": LINEAR, "optimizer": use("adam", lr=0.01)},
    {"model": LINEAR, "optimizer": use("adam", lr=0.1), "seed": 4},
    {"model": MLP, "optimizer": use("adam", lr=0.1), "engine": "autograd"},
]
"""Two that share a program, and one alone."""


@pytest.fixture
def fit(tmp_path):
    def fitted(configs=CONFIGS, folds=FOLDS[:2], tables=None, epochs=3, **options):
        trainer = {"accelerator": "cpu", "max_epochs": epochs, **options.pop("trainer", {})}
        options = {"tracking": OFF, "root": tmp_path / "runs", **options}
        return fit_many(configs, tables or data(), folds, trainer, **options)

    return fitted


def test_nothing_is_written_unless_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = fit_many(CONFIGS, data(), trainer={"accelerator": "cpu", "max_epochs": 1})
    assert [result.run for result in results] == [None] * 3
    assert list(tmp_path.iterdir()) == []


def test_metrics_are_those_of_separate_fits_epoch_by_epoch(tmp_path, fit):
    run = fit()[0].run
    assert run.metrics.columns[:4] == ["step", "epoch", "configuration", "fold"]
    assert run.metrics.height == 3 * len(CONFIGS) * 2
    for number, given in enumerate(CONFIGS):
        config = {name: value for name, value in given.items() if name != "seed"}
        for fold, rows in enumerate(FOLDS[:2]):
            options = {"trainer": {"accelerator": "cpu", "max_epochs": 3}, "root": tmp_path / "single", "tracking": OFF}
            single = torchplug.fit(config, data().fold(*rows), seed=given.get("seed", 0), **options).run.metrics
            mine = run.metrics.filter(configuration=number, fold=fold)
            for name in ("val/loss", "train/epoch_loss"):
                its = single.filter(single[name].is_not_null())
                assert mine["epoch"].to_list() == its["epoch"].to_list() == [0, 1, 2]
                assert mine["step"].to_list() == its["step"].to_list()
                assert mine[name].to_list() == pytest.approx(its[name].to_list(), rel=1e-4)
            if number == 2:
                assert mine["val/rmse"].to_list() == single["val/rmse"].drop_nulls().to_list()


def test_the_run_is_described_as_an_ordinary_one(fit):
    early = EarlyStopping("val/loss", patience=5)
    results = fit(trainer={"callbacks": early})
    run = results[0].run
    assert all(result.run is not None for result in results)
    assert torchplug.runs(run.path.parents[1]) == [run], "runs within it are parts of it"
    config = run.config
    assert config["model"]["loss"] == {"class_path": "torchplug:mse", "init_args": {}}
    assert [own["optimizer"]["init_args"]["lr"] for own in config["configurations"][:2]] == [0.01, 0.1]
    assert [own["seed"] for own in config["configurations"]] == [0, 4, 0]
    assert config["configurations"][2]["engine"] == "autograd"
    assert config["trainer"]["callbacks"]["init_args"]["patience"] == 5
    assert config["data"]["batch_size"] == 7
    assert config["tracking"]["mode"] == "disabled"
    assert [fold["training"] for fold in config["folds"]] == [200, 103]
    of_fold = run.folds.filter(fold=1)
    assert of_fold.filter(part="training")["row"].to_list() == FOLDS[1][0]
    assert of_fold.filter(part="validation")["row"].to_list() == FOLDS[1][1]
    assert run.provenance["data"] == data().fingerprint
    names = {component["name"] for component in run.provenance["components"]}
    assert {"torchplug:linear", "torchplug:mlp", "torchplug:adam", "torchplug:mse"} == names
    assert run.notes[0].startswith("training 4 models in 1 program and 2 models one by one")
    assert (run.outcome["name"], run.outcome["reason"]) == ("limit", "6 models: limit")
    assert [(own["configuration"], own["fold"]) for own in run.outcome["models"]] == [
        (number, fold) for number in range(3) for fold in range(2)
    ]
    assert {own["epochs"] for own in run.outcome["models"]} == {3}


def test_outcomes_tell_which_model_diverged(fit):
    rates = (0.01, 1e30)
    run = fit([{"model": LINEAR, "optimizer": use("sgd", lr=lr)} for lr in rates], folds=None)[0].run
    assert run.outcome["reason"] == "2 models: 1 limit, 1 stalled"
    assert "is NaN or infinite at epoch 0" in run.outcome["models"][1]["reason"]
    assert run.folds is None
    assert run.config["folds"] is None
    rows = [json.loads(line) for line in run.metrics_file.read_text().splitlines()]
    assert [row["configuration"] for row in rows] == [0, 0, 0], "a model without an epoch has no row"


MODELS = {
    "linear": ([{"model": LINEAR, "loss": "bce", "optimizer": use("adam", lr=lr)} for lr in (0.01, 0.1)], "two"),
    "batch norm": ([{"model": use("mlp", hidden=[5], batch_norm=True), "seed": seed} for seed in (0, 1)], "y"),
    "quantile": (
        [
            {"model": LINEAR, "loss": use("quantile", quantiles=[0.2, 0.9]), "optimizer": use("sgd", lr=lr)}
            for lr in (0.01, 0.1)
        ],
        "y",
    ),
    "alone": ([{"model": MLP, "engine": "autograd"}] * 2, "y"),
}


@pytest.mark.parametrize("case", MODELS)
def test_each_model_has_an_ordinary_checkpoint(tmp_path, fit, case):
    configs, target = MODELS[case]
    results = fit(configs, tables=data(target, batch_size=25))
    run, frame = results[0].run, table().head(20)
    for number in range(2):
        for fold in range(2):
            result = results[2 * number + fold]
            expected = result.module.predict(frame)
            assert torchplug.load(run, number, fold).predict(frame).equals(expected)
            run.unstack(number, fold, tmp_path / "one.ckpt")
            assert torchplug.load(tmp_path / "one.ckpt").predict(frame).equals(expected)
            module = ComponentModule.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
            assert module.predict(frame).equals(expected)
            assert module.hparams == result.module.hparams
            assert all(torch.equal(module.state_dict()[n], v) for n, v in result.module.state_dict().items())


def test_a_model_that_is_not_there_is_refused(tmp_path, fit):
    run = fit(CONFIGS[:2])[0].run
    with pytest.raises(CheckpointError, match="holds many models: say which configuration"):
        torchplug.load(run)
    with pytest.raises(CheckpointError, match="no configuration 7 in a fold 0"):
        torchplug.load(run, 7)
    with pytest.raises(CheckpointError, match="no run of many models"):
        torchplug.load(tmp_path, 0)


def test_a_damaged_checkpoint_is_refused(fit):
    run = fit(CONFIGS[:2])[0].run
    file = run.checkpoints / "stack.ckpt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"stack\.ckpt is damaged"):
        torchplug.load(run, 0)
    with pytest.raises(CheckpointError, match=r"stack\.ckpt is damaged"):
        fit(CONFIGS[:2], ckpt_path="last")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tracking": {"mod": "x"}}, "tracking: there is no setting mod; it has mode, project"),
        ({"tracking": {"project": "a/b"}}, "W&B refuses / there"),
        ({"trainer": {"enable_checkpointing": True}}, "trainer: enable_checkpointing follows from the run directory"),
        ({"epochs": 0}, "max_epochs must be a whole number of at least 1"),
        ({"folds": [([0, 1], [1])]}, "trains on row 1 and validates on it"),
    ],
)
def test_what_is_refused_leaves_nothing(tmp_path, fit, options, message):
    with pytest.raises((ConfigurationError, torchplug.TorchplugError), match=message) as caught:
        fit(**options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_identical_components_are_written_out(fit):
    penalty = [use("l2", coefficient=0.1)]
    rates = [use("adam", lr=0.1), use("adam", lr=0.2)]
    configs = [{"model": LINEAR, "optimizer": rate, "regularizers": penalty} for rate in (*rates, *rates)]
    run = fit(configs, folds=None, tables=TabularData(table(), "y", features=["x0"]), epochs=1)[0].run
    text = (run.path / "config.yaml").read_text()
    assert "&id" not in text
    assert text.count("coefficient: 0.1") == 1, "what all have in common stands once"
