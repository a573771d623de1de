"""Lightning's classes in the settings of the trainer."""

import shlex
from datetime import timedelta

import pytest
from lightning.pytorch import callbacks, strategies

EARLY = "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss"
BUILT = {
    EARLY: ("callbacks", callbacks.EarlyStopping, {"monitor": "val/loss", "patience": 3}),
    f"{EARLY} --trainer.callbacks.patience=5.0": ("callbacks", callbacks.EarlyStopping, {"patience": 5}),
    "--trainer.callbacks '[{class_path: lightning.pytorch.callbacks.EarlyStopping, init_args: {monitor: x}}]'": (
        "callbacks",
        callbacks.EarlyStopping,
        {"monitor": "x"},
    ),
    "--trainer.callbacks+=Timer --trainer.callbacks.duration '{minutes: 1}'": ("callbacks", callbacks.Timer, {}),
    "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.train_time_interval 0:05:00": (
        "callbacks",
        callbacks.ModelCheckpoint,
        {"_train_time_interval": timedelta(minutes=5)},
    ),
    "--trainer.strategy DDPStrategy --trainer.strategy.find_unused_parameters true": (
        "strategy",
        strategies.DDPStrategy,
        {"_start_method": "popen"},
    ),
}


@pytest.mark.parametrize("line", BUILT)
def test_built(command_of, line):
    setting, kind, attributes = BUILT[line]
    command = command_of(["fit", *shlex.split(line)], "linear_regression")
    built = command.trainer()[setting]
    (built,) = built if isinstance(built, list) else [built]
    assert type(built) is kind
    assert {name: getattr(built, name) for name in attributes} == attributes


@pytest.mark.parametrize("line", [line for line in BUILT if "callbacks" in line])
def test_the_printed_configuration_is_read_again(run, command_of, tmp_path, line):
    status, printed, errors = run(["fit", *shlex.split(line), "--print_config"])
    assert (status, errors) == (0, "")
    (tmp_path / "again.yaml").write_text(printed)
    again = command_of(["fit", "--config", "again.yaml"], "linear_regression")
    assert again.config() == command_of(["fit", *shlex.split(line)], "linear_regression").config()


REFUSED = {
    "--trainer.callbacks.patience 3": "--trainer.callbacks.patience: name the class first",
    "--trainer.callbacks+=EarlyStoping": "did you mean EarlyStopping?",
    "--trainer.callbacks+=lightning.pytorch.Trainer": "unknown class 'lightning.pytorch.Trainer'",
    "--trainer.callbacks+=lightning.nowhere.Callback": "unknown class 'lightning.nowhere.Callback'",
    "--trainer.callbacks '[{init_args: {patience: 3}}]'": "expected a class's name, or class_path with init_args",
    f"{EARLY} --trainer.callbacks.monitr x": "EarlyStopping has no parameter 'monitr'; did you mean monitor?",
    "--trainer.callbacks+=ModelCheckpoint --trainer.callbacks.train_time_interval soon": "Not of type timedelta",
    "--trainer.callbacks+=RichProgressBar --trainer.callbacks.theme '{class_path: os.system}'": "os.system",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refused(run, line):
    status, printed, errors = run(["fit", *shlex.split(line)])
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert REFUSED[line] in errors


def test_help(run):
    status, printed, _ = run(["fit", "--trainer.callbacks.help", "EarlyStopping"])
    assert status == 0
    assert "--trainer.callbacks.patience: int = 3" in printed
    status, printed, _ = run(["fit", "--trainer.strategy.help"])
    assert status == 0
    assert "DDPStrategy" in printed.splitlines()
