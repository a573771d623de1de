"""A fit that is saved anywhere, and continued, ends with the bits of one that was not."""

import pytest
import torch
from lightning.pytorch import Callback

from compared_fits import DROPPED, NORMALIZED, Annealed, Fit, differences, made
from torchplug import use
from torchplug.errors import CheckpointError


class SaveEverywhere(Callback):
    """Saves a checkpoint in every hook in which one may be saved, and notes how many rows came before it."""

    def __init__(self, folder, every=1):
        self.folder, self.every, self.saved = folder, every, []

    def _save(self, run, where):
        path = self.folder / f"{len(self.saved):03d}-{where}-{run.global_step}.ckpt"
        run.save_checkpoint(path)
        self.saved.append((path, len(run.loggers[0].rows)))

    def on_validation_end(self, run, module):
        self._save(run, "validated")

    def on_train_epoch_end(self, run, module):
        self._save(run, "before-epoch-end")


class SaveSteps(SaveEverywhere):
    """The same after every few steps: which makes every step Lightning's own."""

    def on_train_batch_end(self, run, module, outputs, batch, index):
        if (index + 1) % self.every == 0:
            self._save(run, "trained")


def interrupted(folder, saver=SaveSteps, every=7, **job):
    """The uninterrupted fit, and the checkpoints that were saved on the way."""
    whole = made(folder / "whole")
    callbacks = job.pop("callbacks", lambda folder: [])
    saves = saver(whole, every)
    fit = Fit(whole, callbacks=lambda folder: [*callbacks(folder), saves], **job)()
    return fit, saves.saved


def assert_exact(folder, saver=SaveSteps, every=7, **job):
    whole, saved = interrupted(folder, saver, every, **job)
    expected = whole.everything()
    assert len(saved) >= 4
    callbacks = job.pop("callbacks", lambda folder: [])
    for number, (path, rows_before) in enumerate(saved):
        if path.stem.endswith(f"-{whole.run.max_steps}"):
            continue  # there is nothing left to train, and a trainer does nothing
        fit = Fit(made(folder / str(number)), callbacks=callbacks, resume=path, **job)()
        found = differences(whole.recorder.rows[rows_before:], fit.recorder.rows, "rows")
        got = fit.everything()
        for part in ("steps", "epochs", "metrics", "schedulers"):
            found += differences(expected[part], got[part], part)
        for part in ("state_dict", "optimizer_states", "torchplug"):
            found += differences(expected["checkpoint"][part], got["checkpoint"][part], part)
        assert not found, "\n".join([path.name, *found[:10]])


@pytest.mark.parametrize("engine", ["autograd", "auto"])
@pytest.mark.parametrize(
    "job",
    [
        {},
        {"model": DROPPED},
        {"model": Annealed, "max_epochs": 3},
        {"model": NORMALIZED},
        {"scheduler": use("plateau", patience=0, threshold=0.5)},
        {"scheduler": use("one_cycle")},
        {"log_every_n_steps": 5, "val_check_interval": 0.5},
        {"log_every_n_steps": 5, "val_check_interval": 7},
        {"accumulate_grad_batches": 4, "log_every_n_steps": 2},
        {"max_steps": 50, "max_epochs": -1},
        {"max_steps": 44, "max_epochs": 7},
        {"check_val_every_n_epoch": 2, "max_epochs": 3, "scheduler": use("plateau", patience=0, threshold=0.5)},
        {"scheduler": use("plateau", monitor="train/loss", patience=0, threshold=0.5)},
        {"reduction": "sum", "optimizer": use("sgd", lr=1e-4), "log_every_n_steps": 4},
    ],
    ids=str,
)
def test_from_any_step_and_epoch_end(tmp_path, job, engine):
    assert_exact(tmp_path, engine=engine, **{"log_every_n_steps": 3, **job})


@pytest.mark.parametrize("optimizer", ["levenberg_marquardt", "bfgs", "lbfgs", "newton", "line_search"])
def test_full_batch(tmp_path, optimizer):
    assert_exact(tmp_path, every=1, optimizer=optimizer, max_epochs=4)


@pytest.mark.parametrize("job", [{}, {"model": DROPPED}, {"scheduler": use("plateau", patience=0)}], ids=str)
def test_from_where_steps_are_made_ahead(tmp_path, job):
    assert_exact(tmp_path, SaveEverywhere, **{"log_every_n_steps": 4, "val_check_interval": 0.5, **job})


def test_after_max_steps_cut_an_epoch_short(tmp_path):
    whole = Fit(made(tmp_path / "whole"), max_steps=60, max_epochs=-1, log_every_n_steps=4)().everything()
    first = Fit(made(tmp_path / "first"), max_steps=30, max_epochs=-1, log_every_n_steps=4)()
    first.run.save_checkpoint(tmp_path / "first.ckpt")
    second = Fit(
        made(tmp_path / "second"), max_steps=60, max_epochs=-1, log_every_n_steps=4, resume=tmp_path / "first.ckpt"
    )()
    got = second.everything()
    assert not differences(whole["checkpoint"]["state_dict"], got["checkpoint"]["state_dict"])
    assert not differences(whole["checkpoint"]["torchplug"], got["checkpoint"]["torchplug"])
    rows = first.recorder.rows[:-1] + second.recorder.rows  # all but the mean of the epoch that was cut short
    assert not differences(whole["rows"], rows)


def test_a_checkpoint_that_was_saved_before_training_starts_from_there(tmp_path):
    class SaveAtStart(Callback):
        def on_train_start(self, run, module):
            run.save_checkpoint(tmp_path / "start.ckpt")

    whole = Fit(made(tmp_path / "a"), callbacks=lambda folder: [SaveAtStart()], max_epochs=1)()
    again = Fit(made(tmp_path / "b"), resume=tmp_path / "start.ckpt", max_epochs=1)()
    assert not differences(whole.recorder.rows, again.recorder.rows)


def test_a_model_without_its_training_is_refused(tmp_path):
    _, saved = interrupted(tmp_path, max_epochs=1)
    content = torch.load(saved[0][0], weights_only=True)
    del content["torchplug"]["fit"]
    torch.save(content, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match="a model without its training"):
        Fit(made(tmp_path / "b"), resume=tmp_path / "model.ckpt")()


@pytest.mark.parametrize(
    "damage", [("position", [1, -2, "trained"]), ("position", None), ("steps", {}), ("metrics", 3)]
)
def test_progress_that_cannot_be_read_is_refused(tmp_path, damage):
    _, saved = interrupted(tmp_path, max_epochs=1)
    content = torch.load(saved[0][0], weights_only=True)
    content["torchplug"]["fit"][damage[0]] = damage[1]
    torch.save(content, tmp_path / "damaged.ckpt")
    with pytest.raises(CheckpointError, match="progress cannot be read"):
        Fit(made(tmp_path / "b"), resume=tmp_path / "damaged.ckpt")()
