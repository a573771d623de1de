"""Reading the training loader trains only where the trainer reads it: batches flow from data to trainer to module."""

import pytest
import torch
from lightning.pytorch import Callback

from compared_fits import Fit, differences, made
from streamed_files import FEATURES, mixed_table, written
from torchplug import Loss, TabularData


class Reading(Callback):
    """Reads some batches of the training loader in one hook of a callback."""

    def __init__(self, hook, batches):
        self.read = 0
        self.steps = set()
        setattr(self, hook, lambda run, *others: self.read_from(run, batches))

    def read_from(self, run, batches):
        before = run.global_step
        for _ in zip(range(batches), run.train_dataloader, strict=False):
            self.read += 1
        self.steps.add(run.global_step - before)


HOOKS = (
    "on_train_start",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_train_end",
    "on_validation_start",
    "on_validation_end",
    "on_save_checkpoint",
)


@pytest.mark.parametrize("batches", [1, 100], ids=["one", "all"])
@pytest.mark.parametrize("hook", HOOKS)
def test_a_callback_that_reads_batches_changes_nothing(tmp_path, hook, batches):
    """Within an epoch, between epochs, and before the first."""
    options = {"val_check_interval": 11, "max_epochs": 2}
    plain = Fit(made(tmp_path / "plain"), 7, **options)()
    plain.run.save_checkpoint(tmp_path / "plain.ckpt")
    reading = Reading(hook, batches)
    fit = Fit(made(tmp_path / "reading"), 7, callbacks=lambda _: [reading], **options)()
    fit.run.save_checkpoint(tmp_path / "reading.ckpt")
    assert reading.read > 0
    assert reading.steps == {0}
    assert fit.calls == plain.calls < fit.run.global_step
    found = [[each.parameters, each.snapshots.taken, each.recorder.rows, each.run.global_step] for each in (plain, fit)]
    assert differences(*found) == []


@pytest.mark.parametrize("hook", ["on_train_epoch_start", "on_validation_end"])
def test_a_callback_that_reads_streamed_batches_changes_nothing(tmp_path, hook):
    source = written(mixed_table(), tmp_path)

    def data():
        return TabularData(source, "y", features=FEATURES, batch_size=16, stream=True)

    found = []
    for name, callbacks in (("plain", []), ("reading", [Reading(hook, 2)])):
        options = {"data": data, "val_check_interval": 2, "callbacks": lambda _, c=callbacks: c}
        found.append(Fit(made(tmp_path / name), 7, **options)().parameters)
    assert differences(*found) == []


def test_reading_in_a_resumed_epoch_changes_nothing(tmp_path):
    """The hooks of an epoch's start are left out there."""
    first = Fit(made(tmp_path / "first"), 7, max_steps=9, max_epochs=None)()
    first.run.save_checkpoint(tmp_path / "first.ckpt")
    found = []
    for name, callbacks in (("plain", []), ("reading", [Reading("on_train_start", 3)])):
        fit = Fit(made(tmp_path / name), 7, resume=tmp_path / "first.ckpt", callbacks=lambda _, c=callbacks: c)()
        assert fit.run.global_step == 44
        assert fit.calls < 35, "no step was made between Lightning's"
        found.append(fit.everything())
    assert differences(*found) == []


class Breaking(Loss):
    """A squared error that raises at its n-th batch."""

    kind = "regression"
    error: type[BaseException] = RuntimeError
    calls = 0

    def forward(self, scores, target):
        type(self).calls += scores.requires_grad
        if self.calls == 12 and scores.requires_grad:
            raise self.error("here")
        return (scores - target).square().sum(1)


@pytest.mark.parametrize("batches", [1, 100], ids=["one", "all"])
@pytest.mark.parametrize(("error", "raised"), [(RuntimeError, RuntimeError), (KeyboardInterrupt, SystemExit)])
def test_reading_after_a_fit_that_was_broken_off_does_not_train(
    tmp_path, distributions, monkeypatch, error, raised, batches
):
    distributions.offer("breaking", ("losses", "breaking", f"{__name__}:Breaking"))
    monkeypatch.setattr(Breaking, "error", error)
    monkeypatch.setattr(Breaking, "calls", 0)
    fit = Fit(tmp_path, 7, "autograd", loss="breaking")
    with pytest.raises(raised):
        fit()
    _reads_without_training(fit, batches)


@pytest.mark.parametrize("batches", [1, 100], ids=["one", "all"])
def test_reading_after_a_fit_that_read_nothing_does_not_train(tmp_path, batches):
    fit = Fit(tmp_path, 7)
    through = []
    follow = fit.module.on_train_epoch_start

    def broken_off():
        follow()
        through.append(fit.run.train_dataloader.through)
        raise KeyboardInterrupt

    fit.module.on_train_epoch_start = broken_off
    with pytest.raises(SystemExit):
        fit()
    assert through[0] is not None
    del fit.module.on_train_epoch_start
    _reads_without_training(fit, batches)


def _reads_without_training(fit, batches):
    before, step = fit.parameters, fit.run.global_step
    read = [batch for batch, _ in zip(fit.run.train_dataloader, range(batches), strict=False)]
    assert read
    assert fit.run.global_step == step
    assert differences(before, fit.parameters) == []
    del fit.module.execution.training_step  # by which calls were counted
    again = Fit(made(fit.folder / "again"), 7, module=fit.module)()
    assert again.run.global_step == 44
    assert not any(torch.equal(value, before[name]) for name, value in again.parameters.items())
