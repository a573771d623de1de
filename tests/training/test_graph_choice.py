"""When the engine `auto` compiles."""

import logging

import pytest
from lightning.pytorch import Callback

import torchplug
from torchplug import TabularData, use

MANY = 20_000_000


class StopSoon(Callback):
    """Stops after the first epoch."""

    def on_train_epoch_end(self, trainer, module):
        trainer.should_stop = True


class StopAtOnce(Callback):
    """Stops before the first step."""

    def on_train_epoch_start(self, trainer, module):
        trainer.should_stop = True


def begin(monkeypatch, tmp_path, *, scheduler=None, steps=MANY, **trainer):
    """Begin a fit of many planned steps, and stop it."""
    monkeypatch.chdir(tmp_path)
    settings = {"max_steps": steps, "max_epochs": None, "callbacks": [StopSoon()], "accelerator": "cpu", **trainer}
    config = {"model": use("linear"), "loss": "mse", "optimizer": use("adam", lr=0.01), "scheduler": scheduler}
    return torchplug.fit(
        config, TabularData("diabetes", "target", batch_size=32), trainer=settings, tracking={"mode": "disabled"}
    )


def test_an_epoch_may_be_stopped_before_its_first_step(monkeypatch, tmp_path):
    assert "train/epoch_loss" not in begin(monkeypatch, tmp_path, steps=100, callbacks=[StopAtOnce()]).metrics


@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # of the compiler's own import
def test_a_fit_of_many_small_steps_is_compiled(monkeypatch, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "torchplug"):
        begin(monkeypatch, tmp_path)
    assert any(message.startswith("compiling") for message in caplog.messages)


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 100_000},
        {"gradient_clip_val": 1.0},
        {"scheduler": use("cosine", interval="step")},
        {"accumulate_grad_batches": 2},
    ],
    ids=["few-steps", "clipping", "schedule-by-step", "accumulation"],
)
def test_other_fits_are_not(monkeypatch, tmp_path, caplog, changed):
    with caplog.at_level(logging.INFO, "torchplug"):
        begin(monkeypatch, tmp_path, **changed)
    assert not any(message.startswith("compiling") for message in caplog.messages)
