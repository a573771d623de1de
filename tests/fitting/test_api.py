"""`torchplug.fit`: what a recipe does, from Python."""

import json
import logging
import subprocess
import sys

import numpy as np
import polars
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping

import torchplug
from torchplug import ComponentModule, FitResult, Run, TabularData, use
from torchplug.errors import CheckpointError, ConfigurationError, DataError, TrainingError

OFF = {"mode": "disabled"}
CONFIG = {"model": use("linear"), "loss": use("mse"), "optimizer": use("adam", lr=0.01)}


def table(rows=60):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 2))
    return polars.DataFrame(
        {"a": x[:, 0], "b": x[:, 1], "y": 1.0 + x @ [2.0, -3.0] + 0.1 * generator.normal(size=rows)}
    )


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def fit(config=CONFIG, data=None, **options):
    options = {"trainer": {"max_epochs": 3}, "tracking": OFF} | options
    return torchplug.fit(config, TabularData(table(), "y") if data is None else data, **options)


def test_a_fit_returns_module_metrics_outcome_and_run(tmp_path):
    result = fit()
    assert isinstance(result, FitResult)
    assert set(result.metrics) == {"val/loss", "val/rmse", "val/mae", "val/r2", "train/epoch_loss"}
    assert result.metrics["val/rmse"] == pytest.approx(result.metrics["val/loss"] ** 0.5)
    assert (result.outcome.name, result.run.outcome["epochs"]) == ("limit", 3)
    assert result.run.path.parent == tmp_path / "runs" / "fit"
    assert result.module.predict(table()).columns == ["y"]


def test_closed_form_is_least_squares():
    frame, split = table(), [1.0, 0.0, 0.0]
    result = fit({"model": "linear", "optimizer": "closed_form"}, TabularData(frame, "y", split=split))
    X = np.column_stack([np.ones(60), frame["a"], frame["b"]])
    found = result.run.coefficients["coefficient"].to_numpy()
    np.testing.assert_allclose(found, np.linalg.lstsq(X, frame["y"], rcond=None)[0], rtol=1e-12)
    assert result.outcome.name == "converged"


def test_nothing_is_printed_and_the_process_is_left_as_it_was(capfd):
    levels = [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
    fit()
    assert tuple(capfd.readouterr()) == ("", "")
    assert levels == [logging.getLogger(name).level for name in ("lightning.pytorch", "lightning.fabric")]
    assert not torch.distributed.is_initialized()


def test_equal_seeds_give_equal_bits_and_others_do_not():
    mlp = CONFIG | {"model": use("mlp", hidden=[4])}
    first, again, other = (fit(mlp, seed=seed) for seed in (1, 1, 2))
    assert first.metrics == again.metrics
    assert first.metrics["val/loss"] != other.metrics["val/loss"]


def test_without_a_seed_the_generators_are_left_alone():
    torch.manual_seed(5)
    expected = fit(seed=None).metrics
    torch.manual_seed(5)
    assert fit(seed=None).metrics == expected


def test_a_module_is_trained_in_place():
    module = ComponentModule(**CONFIG)
    result = fit(module)
    assert result.module is module
    assert result.metrics == fit().metrics


def test_the_recorded_configuration_reads_as_a_recipes(run):
    result = fit(CONFIG | {"regularizers": [use("l2", coefficient=0.01)]}, TabularData("diabetes", "target"), seed=3)
    config = yaml.safe_load((result.run.path / "config.yaml").read_text())
    assert config["model"]["optimizer"] == {"class_path": "torchplug:adam", "init_args": {"lr": 0.01}}
    assert (config["seed_everything"], config["trainer"]) == (3, {"max_epochs": 3})
    status, output, errors = run(["fit", "--config", f"{result.run.path}/config.yaml"])
    assert (status, errors) == (0, ""), output
    (of_recipe,) = torchplug.runs("runs/linear_regression")
    of_both = [of.metrics["val/rmse"].drop_nulls().to_list() for of in (of_recipe, result.run)]
    assert of_both[0] == of_both[1]


def test_tables_in_memory_and_callbacks_are_described_in_the_configuration():
    result = fit(trainer={"max_epochs": 1, "callbacks": [EarlyStopping("val/loss")]})
    assert result.run.config["data"]["source"] == "<DataFrame in memory>"
    assert result.run.config["trainer"]["callbacks"] == ["<EarlyStopping>"]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_fit_is_resumed_in_its_run_with_the_same_bits(epochs):
    whole = fit()
    part = fit(trainer={"max_epochs": epochs})
    resumed = fit(ckpt_path=part.run.last)
    assert resumed.run == part.run
    assert resumed.metrics == whole.metrics
    assert resumed.run.metrics.equals(whole.run.metrics)
    assert torch.equal(resumed.module.network.map.weight, whole.module.network.map.weight)


def test_what_cannot_be_resumed_is_refused():
    last = fit().run.last
    with pytest.raises(CheckpointError, match=r"was trained with optimizer .*adam.*, not .*sgd.*same configuration"):
        fit(CONFIG | {"optimizer": use("sgd", lr=0.1)}, ckpt_path=last)
    with pytest.raises(ConfigurationError, match="has 3 epochs behind it"):
        fit(ckpt_path=last)
    with pytest.raises(ConfigurationError, match="not the table of the fit"):
        fit(data=TabularData(table(61), "y"), trainer={"max_epochs": 5}, ckpt_path=last)
    with pytest.raises(CheckpointError, match="there is no checkpoint nowhere"):
        fit(ckpt_path="nowhere.ckpt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer": {"max_epoch": 3}}, "trainer: there is no parameter max_epoch; did you mean max_epochs"),
        ({"trainer": {"logger": True}}, "trainer: logger follows from the run directory and the data"),
        ({"trainer": {"max_epochs": 0}}, "max_epochs must be a whole number of at least 1"),
        ({"trainer": {"max_epochs": 1, "devices": 10_000}}, "a process each, and this machine has"),
        ({"tracking": {"mod": "x"}}, "tracking: there is no setting mod; it has mode, project"),
        ({"seed": -1}, "seed must be from 0"),
        ({"config": {"modle": "linear"}}, "config has modle; ComponentModule takes model, loss"),
        ({"config": CONFIG | {"optimizer": "adma"}}, "adma.*adam"),
        ({"data": TabularData("nowhere.csv", "y")}, "no file nowhere.csv"),
    ],
)
def test_what_is_refused_leaves_nothing(options, message, tmp_path):
    with pytest.raises((ConfigurationError, DataError), match=message) as caught:
        fit(**options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_training_that_cannot_continue_raises_and_keeps_its_run():
    with pytest.raises(TrainingError, match="the run is runs/fit"):
        fit(CONFIG | {"optimizer": use("sgd", lr=1e30)})
    (kept,) = torchplug.runs()
    assert kept.outcome is None


class Stopping(Callback):
    """Stops a fit within its second epoch, as a callback of a user's may."""

    def on_train_batch_end(self, trainer, *arguments):
        trainer.should_stop = trainer.global_step >= 10


def test_a_fit_that_a_callback_stopped_within_an_epoch_is_resumed_with_the_same_bits():
    data = [TabularData(table(), "y", batch_size=4) for _ in range(3)]
    whole = fit(data=data[0])
    stopped = fit(data=data[1], trainer={"max_epochs": 3, "callbacks": [Stopping()]})
    assert (stopped.outcome.name, stopped.run.outcome["steps"]) == ("limit", 10)
    resumed = fit(data=data[2], ckpt_path=stopped.run.last)
    assert resumed.metrics == whole.metrics
    assert resumed.run.metrics.equals(whole.run.metrics)


class Interrupting(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_ctrl_c_is_a_keyboard_interrupt_and_the_run_can_be_resumed():
    with pytest.raises(KeyboardInterrupt, match="resume it with ckpt_path"):
        fit(trainer={"max_epochs": 3, "callbacks": [Interrupting()]})
    (run,) = torchplug.runs()
    assert fit(ckpt_path=run.last).metrics == fit().metrics


def test_a_run_is_read_back(tmp_path):
    result = fit(data=TabularData("diabetes", "target", impute="drop"), name="study/one", root=tmp_path / "elsewhere")
    run = Run.open(result.run.path)
    assert run == result.run
    assert run.path.parent == tmp_path / "elsewhere" / "study" / "one"
    assert run.provenance["seed"] == 0
    assert run.metrics.columns[:2] == ["step", "epoch"]
    assert run.metrics["val/loss"].drop_nulls().to_list()[-1] == result.metrics["val/loss"]
    assert run.config["data"]["impute"] == "drop"
    assert run.notes == (run.path / "notes.txt").read_text().splitlines()
    best = torchplug.load(run)
    frame = polars.DataFrame({name: [0.0] for name in ("age", "sex", "bmi", "bp", *(f"s{i}" for i in range(1, 7)))})
    assert best.predict(frame).equals(torchplug.load(run.best).predict(frame))


def test_runs_are_listed_by_time_and_what_is_no_run_is_refused(tmp_path):
    first, second = fit(), fit(name="other")
    assert torchplug.runs() == [first.run, second.run]
    assert torchplug.runs("runs/other") == [second.run]
    assert torchplug.runs("nowhere") == []
    with pytest.raises(ConfigurationError, match=r"is no run directory: it has no config.yaml"):
        Run.open(tmp_path)


def test_an_unfinished_run_can_be_followed(tmp_path):
    seen = []

    class Following(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            (run,) = torchplug.runs()
            seen.append((run.outcome, run.metrics.height))

    fit(trainer={"max_epochs": 2, "callbacks": [Following()]})
    assert [outcome for outcome, _ in seen] == [None, None]
    assert seen[0][1] < seen[1][1]


SCRIPT = """
import json, sys, torch
import torchplug
from torchplug import TabularData, use

if __name__ == "__main__":
    config = {"model": use("linear"), "loss": use("mse"), "optimizer": use("adam", lr=0.01)}
    results = [
        torchplug.fit(config, TabularData("diabetes", "target"), tracking={"mode": "disabled"},
                      trainer={"max_epochs": 2, "devices": 2, "accelerator": "cpu"})
        for _ in range(2)
    ]
    print(json.dumps([[str(result.run.path), result.metrics["val/loss"]] for result in results]))
"""


def test_two_ranks_share_a_run_each_time(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    of_ranks = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[[")]
    assert len(of_ranks) == 2
    assert of_ranks[0] == of_ranks[1]
    assert len({path for path, _ in of_ranks[0]}) == 2
    assert of_ranks[0][0][1] == of_ranks[0][1][1]
