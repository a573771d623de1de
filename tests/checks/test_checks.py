"""Trainer, data and components that do not go together are refused before a run is made; what works is not."""

import shlex

import pytest

EPOCHS = "--trainer.max_epochs 2"
STOPPING = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor"
AT_EPOCH_END = "--trainer.callbacks.check_on_train_epoch_end"
MLP = "--model.model mlp --model.model.hidden"
REFUSED = {
    "--trainer.val_check_interval 500": "--trainer.val_check_interval 500: an epoch has 1 batch: give at most 1",
    "--trainer.val_check_interval 30 --trainer.check_val_every_n_epoch null": "training has 2 batches: give at most 2",
    "--trainer.val_check_interval 0": "--trainer.val_check_interval must be above 0",
    "--trainer.limit_val_batches 0.5": "the validation split has 1 batch, and that share of them is none",
    "--trainer.limit_train_batches 0.05 --data.batch_size 32": "the train split has 9 batches, and that share",
    "--trainer.overfit_batches 0.05": "--trainer.overfit_batches 0.05: the train split has 1 batch",
    "--trainer.max_time 00:00:00:00": "--trainer.max_time leaves no time to train",
    "--trainer.min_epochs 3": "--trainer.min_epochs 3 is above --trainer.max_epochs 2",
    f"{STOPPING} val/loss --trainer.limit_val_batches 0": "which no epoch logs, since nothing is validated",
    f"{STOPPING} val/loss --trainer.check_val_every_n_epoch 5": "since nothing is validated: watch train/epoch_loss",
    f"{STOPPING} val/loss --trainer.check_val_every_n_epoch 2 {AT_EPOCH_END} true": "not every epoch validates",
    f"{STOPPING} train/epoch_loss {AT_EPOCH_END} false": "before an epoch has logged it",
    f"{STOPPING} train/epoch_loss --data.split [1,0,0] {AT_EPOCH_END} false": "when a validation ends, and nothing is",
    f"{STOPPING} train/epoch_loss --data.batch_size 16 --trainer.val_check_interval 0.5": "before an epoch has logged",
    f"{STOPPING} train/loss": "which no epoch logs: watch train/epoch_loss, val/loss,",
    "--model.scheduler plateau --data.split [1,0,0]": "plateau watches val/loss, which no epoch logs, since nothing is",
    "--model.scheduler plateau --trainer.limit_val_batches 0": "since nothing is validated: watch train/epoch_loss, or",
    "--model.scheduler plateau --model.scheduler.monitor val/accuracy": "plateau watches val/accuracy, which no epoch",
    "--model.optimizer.lr 1e300": "nesterov: lr 1e+300 is infinite in single precision, whose numbers reach from",
    "--model.optimizer.lr 1e-300": "nesterov: lr 1e-300 is zero in single precision",
    "--model.optimizer adam --model.optimizer.eps 1e-200": "adam: eps 1e-200 is zero in single precision",
    "--model.regularizers+=l2 --model.regularizers.coefficient 1e200": "l2: coefficient 1e+200 is infinite",
    "--model.scheduler warmup --model.scheduler.after inverse_time --model.scheduler.after.decay 1e200": "1e+200 is",
    f"--model.optimizer.lr {'1' * 400}": "it is too large for a float",
    f"{MLP} [2000000000,1000000]": "the network has 2e+15 parameters, which with gradients and the state of",
    f"{MLP} [2000000000,1000000] --model.optimizer adam": "state of adam take 40,000 TB of memory, and",
    f"{MLP} [2000000000,2000000000]": "more numbers than can be counted",
    f"{MLP} [99999999999999999999]": "hidden widths must be from 1 to 2147483647",
    f"{MLP} [{','.join(['2'] * 1001)}]": "hidden must have at most 1000 layers, got 1001",
}


@pytest.mark.parametrize("line", REFUSED, ids=range(len(REFUSED)))
def test_refused(run, tmp_path, line):
    status, printed, errors = run(shlex.split(f"fit {EPOCHS} {line}"))
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert REFUSED[line] in errors
    assert not (tmp_path / "runs").exists()


ACCEPTED = [
    f"{STOPPING} val/loss --trainer.check_val_every_n_epoch 2",
    f"{STOPPING} train/epoch_loss",
    f"{STOPPING} train/epoch_loss --data.split [1,0,0]",
    "--trainer.limit_val_batches 0",
    "--trainer.overfit_batches 1",
    "--trainer.val_check_interval 2 --data.batch_size 64",
    "--trainer.check_val_every_n_epoch 5",
    "--model.scheduler plateau --model.scheduler.monitor train/epoch_loss --trainer.limit_val_batches 0",
    "--model.optimizer.lr 1e-200 --trainer.precision 64-true",
]


@pytest.mark.parametrize("line", ACCEPTED, ids=range(len(ACCEPTED)))
def test_accepted(run, line):
    status, _, errors = run(shlex.split(f"fit {EPOCHS} {line}"))
    assert (status, errors) == (0, "")


def test_nothing_to_evaluate(run):
    assert run(["fit", "--trainer.max_epochs", "1"])[0] == 0
    for subcommand, flag in {"validate": "limit_val_batches", "test": "limit_test_batches"}.items():
        for limit in ("0", "0.1"):
            status, _, errors = run([subcommand, f"--trainer.{flag}", limit])
            assert status == 2
            assert f"--trainer.{flag} {limit}" in errors


def test_without_validation_there_is_only_a_last_checkpoint(run, tmp_path):
    assert run(["fit", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0"])[0] == 0
    assert [file.name for file in tmp_path.glob("runs/*/*/checkpoints/*")] == ["last.ckpt"]
