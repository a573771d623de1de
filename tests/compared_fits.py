"""One fit made with several settings of execution, and everything of it that must not hang on them."""

import copy
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import polars
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import nn

from small_fits import trainer
from torchplug import ComponentModule, TabularData, use

MLP = use("mlp", hidden=[5], activation="tanh")
DROPPED = use("mlp", hidden=[5], dropout=0.3)
NORMALIZED = use("mlp", hidden=[5], batch_norm=True)
OF_A_MODULE = ("loss", "optimizer", "regularizers", "scheduler", "reduction")


def table(n=250, d=3):
    """Features x0, x1, …; a number y, a count, two classes, three classes, a weight."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(n, d)) * np.linspace(0.5, 2.0, d)
    y = X @ np.linspace(-1.0, 1.0, d) + np.sin(X[:, 0]) + 0.3 * rng.normal(size=n)
    return polars.DataFrame(
        {
            **{f"x{j}": X[:, j] for j in range(d)},
            "y": y,
            "z": y**2,
            "count": rng.poisson(np.exp(0.3 * X[:, 0])),
            "two": np.where(y > 0, "high", "low"),
            "three": np.digitize(y, [-1.0, 1.0]),
            "w": rng.uniform(0.2, 3.0, n),
        }
    )


def rows(target="y", n=250, d=3, **settings):
    """A data module over the table: of 250 rows 150 train, which is 21 batches of 7 and one of 3."""
    features = [f"x{j}" for j in range(d)]
    return TabularData(table(n, d), target=target, features=features, **{"batch_size": 7, **settings})


class Annealed(nn.Module):
    """A network whose dropout falls during a fit; it keeps what it is told."""

    def __init__(self, rate=0.5):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 5), nn.ELU(), nn.Dropout(rate), nn.Linear(5, 1))
        self.rate, self.told = rate, []

    def anneal(self, passed):
        self.layers[2].p = self.rate * (1 - passed)
        self.told.append(passed)

    def forward(self, features):
        return self.layers(features)


class Recorder(Logger):
    """Keeps every row it is given."""

    name = "recorder"
    version = "0"

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params, *args, **kwargs):
        """None of them is of interest."""


class Snapshots(Callback):
    """What stands there at each end of an epoch and of a validation. It looks at no single batch."""

    def __init__(self):
        self.taken = []

    def on_train_epoch_end(self, run, module):
        self.on_validation_end(run, module)
        self.taken.append(copy.deepcopy(run.optimizers[0].state_dict()))

    def on_validation_end(self, run, module):
        self.taken.append({name: value.detach().clone() for name, value in module.network.state_dict().items()})
        self.taken.append({name: float(value) for name, value in run.callback_metrics.items()})
        self.taken.append(run.global_step)


class Fit:
    """A module, trained.

    Args:
        folder: for what the trainer and its callbacks write.
        steps_per_execution, engine: as the module takes them.
        data: makes the data module.
        model: a name or spec, or what makes a network.
        callbacks: makes callbacks, given the folder.
        resume: a checkpoint to go on from.
        module: one that is there already, to be trained.
        settings: of the module and of the trainer.
    """

    def __init__(
        self,
        folder,
        steps_per_execution="auto",
        engine="auto",
        *,
        data=rows,
        model=MLP,
        callbacks=lambda folder: [],
        resume=None,
        module=None,
        **settings,
    ):
        torch.manual_seed(3)
        self.folder = folder
        of_module = {name: settings.pop(name) for name in OF_A_MODULE if name in settings}
        model = model() if callable(model) else model
        options = {"engine": engine, "steps_per_execution": steps_per_execution, **of_module}
        self.module = module or ComponentModule(model, **options)
        self.calls = 0
        self._count_calls(self.module.execution)
        self.recorder, self.snapshots = Recorder(), Snapshots()
        watching = [*callbacks(folder), self.snapshots]
        saves = any(isinstance(callback, ModelCheckpoint) for callback in watching)
        options = {"logger": self.recorder, "callbacks": watching, "enable_checkpointing": saves}
        self.run = trainer(folder, **{**options, **settings})
        self.data = data()
        self.resume = resume

    def __call__(self):
        """Train."""
        self.run.fit(self.module, self.data, ckpt_path=self.resume, weights_only=None if self.resume is None else True)
        return self

    def _count_calls(self, execution):
        step = execution.training_step

        def counted(batch):
            self.calls += 1
            return step(batch)

        execution.training_step = counted

    @property
    def parameters(self):
        """By name."""
        return {name: p.detach().clone() for name, p in self.module.network.named_parameters()}

    def everything(self):
        """All that somebody outside can see of it."""
        self.run.save_checkpoint(self.folder / "whole.ckpt")
        checkpoint = torch.load(self.folder / "whole.ckpt", weights_only=True)
        for setting in ("engine", "steps_per_execution"):  # what is compared
            del checkpoint["hyper_parameters"][setting]
        return self._anywhere(
            {
                "checkpoint": checkpoint,
                "rows": self.recorder.rows,
                "snapshots": self.snapshots.taken,
                "steps": self.run.global_step,
                "epochs": self.run.current_epoch,
                "stopped": self.run.should_stop,
                "metrics": {name: float(value) for name, value in self.run.callback_metrics.items()},
                "logged": {name: float(value) for name, value in self.run.logged_metrics.items()},
                "schedulers": [c.scheduler.state_dict() for c in self.run.lr_scheduler_configs],
                "files": sorted(p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*.ckpt")),
            }
        )

    def _anywhere(self, thing):
        """The same, with paths relative to the folder."""
        if isinstance(thing, str):
            return thing.replace(str(self.folder), "")
        if isinstance(thing, Mapping):
            return {self._anywhere(key): self._anywhere(value) for key, value in thing.items()}
        if isinstance(thing, list | tuple):
            return [self._anywhere(value) for value in thing]
        return thing


def differences(first, second, where="", within=None):
    """Where two nests of tensors and numbers differ, in one bit or by more than a relative amount; [] if nowhere."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        if list(map(str, first)) != list(map(str, second)):
            return [f"{where}: keys {list(first)} and {list(second)}"]
        return [d for key in first for d in differences(first[key], second[key], f"{where}/{key}", within)]
    if _is_sequence(first) and _is_sequence(second):
        if len(first) != len(second):
            return [f"{where}: {len(first)} and {len(second)} items"]
        pairs = enumerate(zip(first, second, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}/{i}", within)]
    return [] if _is_same(first, second, within) else [f"{where}: {first} and {second}"]


def _is_sequence(thing):
    return isinstance(thing, Sequence) and not isinstance(thing, str)


def _is_same(first, second, within):
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or first.shape != second.shape:
            return False
        if within is None:
            return torch.equal(first, second) or bool(((first == second) | (first.isnan() & second.isnan())).all())
        return torch.allclose(first, second, rtol=within, atol=within)
    if type(first) is not type(second):
        return False
    if isinstance(first, float):
        close = within is not None and math.isclose(first, second, rel_tol=within, abs_tol=within)
        return first == second or close or (math.isnan(first) and math.isnan(second))
    return bool(first == second)


def assert_alike(folder, engine, calls=(7, "auto"), runs_ahead=True, **job):
    """Several steps per call give what single steps give, bit for bit; returns the fit by single steps."""
    single = Fit(made(folder / "1"), 1, engine, **job)()
    assert single.calls >= single.run.global_step
    expected = single.everything()
    for steps in calls:
        fit = Fit(made(folder / str(steps)), steps, engine, **job)()
        found = differences(expected, fit.everything())
        assert not found, "\n".join([f"steps_per_execution {steps}:", *found[:20]])
        if runs_ahead:
            assert fit.calls < fit.run.global_step, "every step was one of Lightning's"
    return single


def made(folder):
    """The folder, which was not there before."""
    folder.mkdir(parents=True)
    return folder


@contextmanager
def quiet():
    """Without Lightning's remarks on what small fits do on purpose."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for message in (
            ".*does not have many workers.*",
            "Total length of `list` across ranks is zero",
            "You defined a `validation_step` but have no",
            "The number of training batches .* is smaller than the logging interval",
            "You're resuming from a checkpoint that ended before the epoch ended",
            "The dirpath has changed from",
            "Checkpoint directory .* exists and is not empty",
        ):
            warnings.filterwarnings("ignore", message=message)
        yield
