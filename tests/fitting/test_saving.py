"""A fit whose checkpoints are written now and then leaves what one leaves that writes each of them."""

import shutil

import numpy as np
import polars
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

import torchplug
from torchplug import Run, TabularData, use
from torchplug.errors import TrainingError, WriteError
from torchplug.fitting import training
from torchplug.interruption import Interrupted
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.throttled_io import COPY_SECONDS, INTERVAL_SECONDS, ThrottledCheckpointIO

CONFIG = {
    "model": use("mlp", hidden=[6], dropout=0.2),
    "loss": use("mse"),
    "optimizer": use("adam", lr=0.05),
    "scheduler": use("plateau", patience=0),
}
EPOCHS = 9
COPIED = 1 / (1.05 * COPY_SECONDS)
"""Epochs per second so slow that the state after each is copied, and so fast that a fit ends within a second."""
PATHS = ("dirpath", "best_model_path", "kth_best_model_path", "last_model_path", "best_k_models")
NOT_COMPARED = (*PATHS, "current_score")  # which Lightning does not restore


def table(rows=60):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 2))
    return polars.DataFrame({"a": x[:, 0], "b": x[:, 1], "y": x @ [2.0, -3.0] + generator.normal(size=rows)})


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """A fit in which a second passes with every so many epochs."""
    monkeypatch.chdir(tmp_path)

    def fitted(name, epochs_per_second=1e9, callbacks=(), config=None, limits=None, **options):
        clock = Clock(INTERVAL_SECONDS / epochs_per_second)
        monkeypatch.setattr(training, "ThrottledCheckpointIO", lambda files: ThrottledCheckpointIO(files, clock))
        settings = {"max_epochs": EPOCHS, "callbacks": [clock, *callbacks], **(limits or {})}
        data = TabularData(table(), "y", batch_size=16)
        config = CONFIG | (config or {})
        return torchplug.fit(config, data, name=name, trainer=settings, tracking={"mode": "disabled"}, **options)

    return fitted


class Clock(Callback):
    def __init__(self, per_epoch):
        self.now, self.per_epoch = 0.0, per_epoch

    def __call__(self):
        return self.now

    def on_train_epoch_start(self, trainer, pl_module):
        self.now += self.per_epoch


class InEpoch(Callback):
    """Calls a function at a certain hook of an epoch of the fit."""

    def __init__(self, hook, epoch, call):
        self.epoch, self.call = epoch, call
        setattr(self, hook, self._hook)

    def _hook(self, trainer, *arguments):
        if trainer.current_epoch == self.epoch:
            self.call(trainer)


def raising(error):
    def call(trainer):
        raise error

    return call


def stop(trainer):
    trainer.should_stop = True


def diverge(trainer):
    next(trainer.lightning_module.parameters()).data.fill_(float("nan"))


def at(hook, call):
    """What makes a callback that calls a function at a hook of the sixth epoch."""
    return lambda: [InEpoch(hook, 5, call)]


EXACT_ENDS = {
    "limit": (None, list),
    "early stopping": (None, lambda: [EarlyStopping("val/loss", patience=1, min_delta=10.0)]),
    "stopped within an epoch": (None, at("on_train_batch_end", stop)),
    "stopped at an epoch's end": (None, at("on_train_epoch_end", stop)),
    "interrupted": (KeyboardInterrupt, at("on_train_batch_start", raising(Interrupted()))),
    "interrupted after a validation": (KeyboardInterrupt, at("on_validation_end", raising(Interrupted()))),
}
ENDS = EXACT_ENDS | {
    "broken off": (KeyboardInterrupt, at("on_train_batch_start", raising(KeyboardInterrupt()))),
    "error of a callback": (ZeroDivisionError, at("on_train_batch_start", raising(ZeroDivisionError()))),
    "divergence": (TrainingError, at("on_train_epoch_start", diverge)),
}


def ended(fit, name, end, **options):
    """The run of a fit that ends in a certain way."""
    error, callbacks = ENDS[end][0], ENDS[end][1]()
    if error is None:
        return fit(name, callbacks=callbacks, **options).run
    with pytest.raises(error):
        fit(name, callbacks=callbacks, **options)
    (run,) = torchplug.runs(f"runs/{name}")
    return run


def plain(content):
    """A checkpoint's content as values that can be compared; the run's own folder left out."""
    if isinstance(content, torch.Tensor):
        return content.tolist()
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [plain(value) for value in content]
    return content


def checkpoint(file):
    content = read_checkpoint(file)
    own = next(name for name in content["callbacks"] if "'monitor': None" in name)
    content["callbacks"] = {
        name: {key: value for key, value in state.items() if key not in NOT_COMPARED}
        for name, state in content["callbacks"].items()
    }
    assert content["callbacks"].pop(own)["monitor"] is None
    return plain(content)


@pytest.mark.filterwarnings("ignore:.*Detected KeyboardInterrupt")
@pytest.mark.parametrize("end", ENDS)
def test_each_end_leaves_the_checkpoints_of_a_fit_that_writes_every_epoch(fit, end):
    each, none = ended(fit, "each", end, epochs_per_second=0.5), ended(fit, "none", end, epochs_per_second=COPIED)
    assert checkpoint(none.last) == checkpoint(each.last)
    assert checkpoint(none.best) == checkpoint(each.best)
    assert none.metrics.equals(each.metrics)
    assert none.outcome == each.outcome


@pytest.mark.filterwarnings("ignore:.*Detected KeyboardInterrupt")
@pytest.mark.parametrize("end", EXACT_ENDS)
def test_the_state_at_the_end_is_saved_however_short_epochs_are(fit, end):
    each, none = ended(fit, "each", end, epochs_per_second=0.5), ended(fit, "none", end)
    assert checkpoint(none.last) == checkpoint(each.last)
    assert checkpoint(none.best) == checkpoint(each.best)
    assert none.metrics.equals(each.metrics)


def test_the_state_at_a_limit_of_steps_is_saved(fit):
    limits = {"max_epochs": -1, "max_steps": 10}
    each, none = (fit(name, rate, limits=limits).run for name, rate in (("each", 0.5), ("none", 1e9)))
    assert read_checkpoint(none.last)["global_step"] == 10
    assert checkpoint(none.last) == checkpoint(each.last)


@pytest.mark.parametrize(("epochs_per_second", "behind"), [(1e9, 4), (25, 1), (9, 0)])
def test_an_error_costs_at_most_a_tenth_of_a_second(fit, epochs_per_second, behind):
    whole = fit("whole").run
    run = ended(fit, "fit", "error of a callback", epochs_per_second=epochs_per_second)
    assert read_checkpoint(run.last)["epoch"] == 4 - behind
    resumed = fit("fit", ckpt_path=run.last).run
    assert checkpoint(resumed.last) == checkpoint(whole.last)
    assert checkpoint(resumed.best) == checkpoint(whole.best)
    assert resumed.metrics.equals(whole.metrics)


def test_divergence_names_the_last_good_checkpoint(fit):
    with pytest.raises(TrainingError, match=r"its last good checkpoint checkpoints/last.ckpt of epoch 4"):
        fit("fit", COPIED, ENDS["divergence"][1]())


class DiskAfterEachEpoch(Callback):
    """Copies what a process that is killed at the start of an epoch leaves on disk."""

    def on_train_epoch_start(self, trainer, pl_module):
        (run,) = torchplug.runs("runs/fit")
        shutil.copytree(run.path, f"killed/{trainer.current_epoch:02}")


@pytest.mark.parametrize("epochs_per_second", [1, 2.5, 4])
def test_a_run_that_is_killed_between_two_writings_is_resumed_exactly(fit, epochs_per_second):
    whole = fit("fit", epochs_per_second, [DiskAfterEachEpoch()])
    behind = []
    for number in range(EPOCHS):
        killed = Run.open(f"killed/{number:02}")
        if not killed.last.is_file():
            assert number <= epochs_per_second
            continue
        last = read_checkpoint(killed.last)
        (state,) = (state for name, state in last["callbacks"].items() if "'monitor': 'val/loss'" in name)
        best = read_checkpoint(killed.best)["torchplug"]["fit"]["metrics"]["val/loss"]
        assert float(state["best_model_score"]) == pytest.approx(best, rel=1e-7)
        behind.append(number - 1 - last["epoch"])
        assert behind[-1] < epochs_per_second
        resumed = fit("fit", ckpt_path=killed.last)
        assert resumed.run == killed
        assert checkpoint(resumed.run.last) == checkpoint(whole.run.last)
        assert checkpoint(resumed.run.best) == checkpoint(whole.run.best)
        assert resumed.run.metrics.equals(whole.run.metrics)
    assert max(behind) == int(np.ceil(epochs_per_second)) - 1


def test_of_short_epochs_a_kill_costs_at_most_a_second(fit):
    found = []

    class Looking(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            (run,) = torchplug.runs("runs/fit")
            if run.last.is_file():
                found.append(trainer.current_epoch - 1 - read_checkpoint(run.last)["epoch"])

    fit("fit", 16, [Looking()], limits={"max_epochs": 70})
    assert len(found) == 54
    assert max(found) == 15


def test_callbacks_find_the_files_when_training_ends(fit):
    found = []

    class Reading(Callback):
        def on_train_end(self, trainer, pl_module):
            (run,) = torchplug.runs("runs/fit")
            found.append(read_checkpoint(run.last)["epoch"])
            found.append(read_checkpoint(trainer.checkpoint_callback.best_model_path)["epoch"])

    fit("fit", callbacks=[Reading()], config={"model": use("linear"), "optimizer": use("adam", lr=0.01)})
    assert found == [EPOCHS - 1, EPOCHS - 1]


def test_a_callback_that_reads_the_files_during_training_has_them_written(fit):
    found = []

    def read(trainer):
        (run,) = torchplug.runs("runs/fit")
        found.append(run.last.exists())
        trainer.strategy.checkpoint_io.write_waiting()
        found.append(read_checkpoint(run.last)["epoch"])

    fit("fit", COPIED, [InEpoch("on_train_epoch_start", 5, read)])
    assert found == [False, 4]


def test_checkpoints_of_other_callbacks_are_written_at_once(fit, tmp_path):
    found = []

    class Looking(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            (run,) = torchplug.runs("runs/fit")
            found.append([len(list(folder.glob("*.ckpt"))) for folder in (tmp_path / "own", run.checkpoints)])

    own = ModelCheckpoint(tmp_path / "own", save_top_k=-1)
    fit("fit", callbacks=[own, Looking()])
    assert found == [[epoch, 0] for epoch in range(EPOCHS)]


def test_the_solution_of_a_full_batch_optimizer_becomes_the_best(fit):
    run = fit("fit", config={"model": use("linear"), "optimizer": use("newton"), "scheduler": None}).run
    assert read_checkpoint(run.best)["state_dict"].keys() == read_checkpoint(run.last)["state_dict"].keys()
    assert torchplug.load(run).intervals(0.8) is not None


def test_a_checkpoint_that_cannot_be_written_ends_the_fit(fit, monkeypatch):
    def block(trainer):
        (run,) = torchplug.runs("runs/fit")
        run.checkpoints.mkdir(exist_ok=True)
        (run.checkpoints / "best.ckpt").mkdir()

    with pytest.raises(WriteError, match=r"best.ckpt cannot be written"):
        fit("fit", callbacks=[InEpoch("on_train_epoch_start", 0, block)])
    (run,) = torchplug.runs("runs/fit")
    assert not run.last.exists()
    assert run.outcome is None
