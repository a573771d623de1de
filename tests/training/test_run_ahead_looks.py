"""Several steps per call give what single steps give: where somebody looks, stops, saves or goes on."""

import datetime

import pytest
import torch
from lightning.pytorch.callbacks import (
    EarlyStopping,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    Timer,
    TQDMProgressBar,
)
from torch import nn

from compared_fits import Fit, assert_alike, differences, made, rows
from torchplug import use


class NoChain(nn.Sequential):
    """A subclass may compute anything, so its optimizer sees single parameters."""


def every(steps, **settings):
    """What makes a checkpoint at every so many steps, all of which are kept."""
    return lambda folder: [
        ModelCheckpoint(folder, **{"every_n_train_steps": steps, "save_top_k": -1, "filename": "{step}", **settings})
    ]


LOOKS = {
    # of 44 steps, 22 an epoch
    "max-steps-within-an-epoch": {"max_epochs": None, "max_steps": 30},
    "max-steps-at-an-epochs-end": {"max_epochs": None, "max_steps": 44},
    "max-steps-alone": {"max_epochs": -1, "max_steps": 9, "scheduler": "one_cycle"},
    "min-steps": {
        "min_steps": 60,
        "max_epochs": 6,
        "callbacks": lambda _: [EarlyStopping("val/loss", min_delta=1e3, patience=0)],
    },
    "min-epochs": {
        "min_epochs": 3,
        "max_epochs": 6,
        "callbacks": lambda _: [EarlyStopping("val/loss", min_delta=1e3, patience=0)],
    },
    "stopped-early": {
        "max_epochs": 9,
        "callbacks": lambda _: [EarlyStopping("val/loss", min_delta=0.05, patience=0)],
    },
    "stopped-within-an-epoch": {
        "max_epochs": 9,
        "val_check_interval": 6,
        "callbacks": lambda _: [EarlyStopping("val/loss", min_delta=0.05, patience=1)],
    },
    "stopped-by-training-loss": {
        "max_epochs": 9,
        "callbacks": lambda _: [
            EarlyStopping("train/epoch_loss", min_delta=0.3, patience=0, check_on_train_epoch_end=True)
        ],
    },
    # the log
    **{f"log-every-{n}": {"log_every_n_steps": n, "max_epochs": 5} for n in (0, 2, 3, 5, 7, 50)},
    "learning-rates": {
        "callbacks": lambda _: [LearningRateMonitor(log_momentum=True, log_weight_decay=True)],
        "scheduler": use("cosine", interval="step"),
        "optimizer": "adamw",
        "log_every_n_steps": 3,
    },
    "learning-rates-by-step": {
        "callbacks": lambda _: [LearningRateMonitor("step")],
        "scheduler": use("exponential", interval="step"),
    },
    "learning-rates-by-epoch": {
        "callbacks": lambda _: [LearningRateMonitor("epoch")],
        "scheduler": use("exponential", interval="step"),
    },
    # validation
    "validated-every-5": {"val_check_interval": 5},
    "validated-every-7": {"val_check_interval": 7},
    "validated-every-step": {"val_check_interval": 1},
    "validated-every-quarter": {"val_check_interval": 0.25},
    "validated-in-every-third-epoch": {"check_val_every_n_epoch": 3, "max_epochs": 7},
    "validated-in-every-second-epoch-by-6": {"check_val_every_n_epoch": 2, "val_check_interval": 6, "max_epochs": 4},
    "validated-across-epochs": {"check_val_every_n_epoch": None, "val_check_interval": 30, "max_epochs": 5},
    "validated-before": {"num_sanity_val_steps": 2},
    "not-validated": {"limit_val_batches": 0},
    "validated-nesterov": {"val_check_interval": 5, "optimizer": use("nesterov", lr=0.02)},
    "validated-normalized": {"val_check_interval": 5, "model": use("mlp", hidden=[4], batch_norm=True)},
    "validated-by-plateau": {"val_check_interval": 5, "scheduler": use("plateau", patience=0)},
    # checkpoints
    "saved-every-5": {"callbacks": every(5)},
    "saved-every-step": {"callbacks": every(1), "max_epochs": 1},
    "saved-every-5-nesterov": {"callbacks": every(5), "optimizer": use("nesterov", lr=0.02)},
    "saved-every-5-and-7": {"callbacks": lambda folder: [*every(5)(folder / "a"), *every(7)(folder / "b")]},
    "saved-at-epochs": {"callbacks": lambda folder: [ModelCheckpoint(folder, save_last=True)]},
    "saved-by-training-loss": {
        "log_every_n_steps": 3,
        "callbacks": every(5, monitor="train/loss", save_top_k=2, filename="{step}-{train/loss:.6f}"),
    },
    "saved-by-validation": {
        "val_check_interval": 6,
        "callbacks": lambda folder: [ModelCheckpoint(folder, monitor="val/loss", save_top_k=3, filename="{step}")],
    },
    # limits
    "limited-to-9": {"limit_train_batches": 9, "max_epochs": 4},
    "limited-to-half": {"limit_train_batches": 0.5, "callbacks": every(4)},
    "limited-validation": {"limit_val_batches": 1, "val_check_interval": 4},
    "overfitted-5": {"overfit_batches": 5, "max_epochs": 4},
    "overfitted-half": {"overfit_batches": 0.5, "data": lambda: rows(split=[1.0])},
    "reloaded": {"reload_dataloaders_every_n_epochs": 1, "max_epochs": 3},
    "anomalies-detected": {"detect_anomaly": True, "max_epochs": 1},
    "without-a-logger": {"logger": False},
}


@pytest.mark.filterwarnings("ignore:.*You have turned on")  # Lightning's remark on overfit_batches
@pytest.mark.parametrize("name", LOOKS)
def test_looks_see_the_same(tmp_path, name):
    steps_singly = name in ("validated-every-step", "saved-every-step")
    single = assert_alike(tmp_path, "auto", runs_ahead=not steps_singly, **LOOKS[name])
    bounds = {"max-steps-within-an-epoch": 30, "max-steps-alone": 9, "limited-to-9": 36, "overfitted-5": 20}
    assert single.run.global_step == bounds.get(name, single.run.global_step)
    if name.startswith("stopped"):
        assert single.run.current_epoch < 8


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("optimizer", ["adamw", use("nesterov", lr=0.02)])
def test_checkpoints_are_the_same(tmp_path, engine, optimizer):
    """What lies in the files too, at every step that is saved."""
    assert_alike(tmp_path, engine, callbacks=every(5), optimizer=optimizer, scheduler=use("cosine", interval="step"))
    names = sorted(path.name for path in (tmp_path / "1").glob("step=*.ckpt"))
    assert len(names) == 8
    for name in names:
        one, *others = (torch.load(tmp_path / steps / name, weights_only=True) for steps in ("1", "7", "auto"))
        for other in others:
            for checkpoint in (one, other):
                checkpoint.pop("callbacks", None)  # with the folder's name
                checkpoint["hyper_parameters"].pop("steps_per_execution", None)
            assert differences(one, other) == []


ROUTES = {"7-1-64": (7, 1, 64), "1-64-7": (1, 64, 7)}


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        ("adamw", None),
        (use("nesterov", lr=0.02), None),
        ("sgd", use("cosine", interval="step")),
        ("adam", "exponential"),
    ],
    ids=["adamw", "nesterov", "sgd-cosine", "adam-exponential"],
)
def test_a_fit_goes_on_within_an_epoch(tmp_path, engine, route, optimizer, scheduler):
    """Broken off at step 10 and at step 35, of 66, and gone on with by other numbers of steps."""
    options = {"optimizer": optimizer, "scheduler": scheduler, "max_epochs": 3, "val_check_interval": 11}
    whole = Fit(made(tmp_path / "whole"), 1, engine, **options)().everything()
    resume = None
    for steps, broken_off in zip(ROUTES[route], (10, 35, None), strict=True):
        folder = made(tmp_path / str(steps))
        fit = Fit(folder, steps, engine, resume=resume, callbacks=every(5), **options)()
        resume = folder / f"step={broken_off}.ckpt"  # as if the process had died right after it
    found = fit.everything()
    for thing in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert differences(whole["checkpoint"][thing], found["checkpoint"][thing], thing) == []
    assert found["steps"] == 66
    # rows and means begin anew where a fit goes on; it logs every step
    expected = [row for row in whole["rows"] if row[0] >= 35 and "train/loss" in row[1]]
    assert differences(expected, [row for row in found["rows"] if "train/loss" in row[1]]) == []


@pytest.mark.parametrize(("first", "second"), [(NoChain, nn.Sequential), (nn.Sequential, NoChain)])
@pytest.mark.parametrize("optimizer", ["adamw", "nesterov"])
def test_a_fit_goes_on_whatever_its_optimizer_sees(tmp_path, first, second, optimizer):
    """Single parameters after one flat tensor of them, and the other way round."""

    def fit(folder, kind, resume=None):
        def network():
            return kind(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))

        options = {"optimizer": optimizer, "precision": "64-true", "callbacks": every(15)}
        return Fit(made(folder), 7, model=network, resume=resume, **options)()

    whole = fit(tmp_path / "whole", first)
    resumed = fit(tmp_path / "resumed", second, tmp_path / "whole" / "step=15.ckpt")
    assert differences(whole.parameters, resumed.parameters, within=1e-12) == []


# ---------------------------------------------------------------------- progress bars


@pytest.mark.parametrize("rate", [1, 4, 10, 100])
def test_a_progress_bar_ends_full_and_changes_nothing(tmp_path, rate, capsys):
    def fit(folder, steps, **settings):
        return Fit(made(folder), steps, **settings)()

    plain = fit(tmp_path / "plain", 1)
    bar = TQDMProgressBar(refresh_rate=rate)
    shown = []
    shows = bar.on_train_epoch_end

    def seen(run, module):
        shows(run, module)
        shown.append((bar.train_progress_bar.n, bar.train_progress_bar.total))

    bar.on_train_epoch_end = seen
    fitted = fit(tmp_path / "bar", 7, callbacks=lambda _: [bar], enable_progress_bar=True)
    capsys.readouterr()
    assert shown == [(22, 22)] * 2
    assert fitted.calls < fitted.run.global_step
    assert differences(plain.parameters, fitted.parameters) == []


def test_a_rich_progress_bar_changes_nothing(tmp_path, capsys):
    plain = Fit(made(tmp_path / "plain"), 1)()
    options = {"callbacks": lambda _: [RichProgressBar()], "enable_progress_bar": True}
    fitted = Fit(made(tmp_path / "bar"), 7, **options)()
    capsys.readouterr()
    assert fitted.calls < fitted.run.global_step
    assert differences(plain.parameters, fitted.parameters) == []


def test_a_limit_of_time_ends_a_fit_and_changes_nothing_before(tmp_path):
    plain = Fit(made(tmp_path / "plain"), 1)()
    hour = {"callbacks": lambda _: [Timer(datetime.timedelta(hours=1), interval="step")]}
    fitted = Fit(made(tmp_path / "hour"), 7, **hour)()
    assert fitted.calls < fitted.run.global_step
    assert differences(plain.parameters, fitted.parameters) == []
    short = Fit(made(tmp_path / "short"), max_epochs=-1, max_time={"seconds": 0.2})()
    assert short.run.global_step > 0


@pytest.mark.parametrize("steps", [1, 16])
@pytest.mark.parametrize("optimizer", ["adam", "adamw"])  # of one group, and of two
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_rows_have_the_learning_rates_of_lightnings_monitor(tmp_path, interval, optimizer, steps):
    fit = Fit(
        tmp_path,
        steps,
        callbacks=lambda _: [LearningRateMonitor()],
        scheduler=use("exponential", interval=interval),
        optimizer=optimizer,
        log_every_n_steps=5,
        max_epochs=3,
    )()
    own, theirs, epochs = {}, {}, {}
    for step, row in fit.recorder.rows:
        rates = {name: value for name, value in row.items() if name.startswith("lr-")}
        if rates:
            (own if "train/loss" in row else epochs if "epoch" in row else theirs)[step] = rates
    assert len({tuple(rates.values()) for rates in own.values()}) >= 3
    assert all(len(rates) == (2 if optimizer == "adamw" else 1) for rates in own.values())
    if interval == "step":
        assert own == theirs
        assert not epochs
    else:
        assert epochs == theirs
        assert all(rates in theirs.values() for rates in own.values())
