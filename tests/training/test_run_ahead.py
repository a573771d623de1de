"""Several steps per call of Lightning's give what single steps give, bit for bit: what a step is made of."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from compared_fits import DROPPED, NORMALIZED, Annealed, Fit, assert_alike, differences, rows
from streamed_files import FEATURES, mixed_table, written
from torchplug import Regularizer, TabularData, use


def of(*arguments, **settings):
    """What makes such a data module."""
    return lambda: rows(*arguments, **settings)


JOBS = {
    "plain": {},
    "linear": {"model": "linear", "optimizer": use("sgd", lr=0.05)},
    "five-epochs": {"max_epochs": 5},
    "batch-12": {"data": of(batch_size=12)},
    "batch-50-of-7": {"data": of(d=7, batch_size=50)},
    "batch-16": {"data": of(batch_size=16)},
    "batch-8-of-8": {"data": of(d=8, batch_size=8)},
    "batch-1": {"data": of(n=60, batch_size=1)},
    "batch-full": {"data": of(batch_size="full"), "max_epochs": 12},
    "deep": {"model": use("mlp", hidden=[7, 4, 3], activation="gelu")},
    "without-bias": {"model": use("linear", bias=False)},
    "in-order": {"data": of(shuffle=False)},
    "in-order-16": {"data": of(shuffle=False, batch_size=16)},
    "all-rows": {"data": of(split=[1.0])},
    "two-targets": {"data": of(["y", "z"])},
    # optimizers
    "sgd": {"optimizer": use("sgd", lr=0.05)},
    "momentum": {"optimizer": use("momentum", lr=0.02)},
    "nesterov": {"optimizer": use("nesterov", lr=0.02)},
    "rmsprop": {"optimizer": use("rmsprop", lr=0.01)},
    "adamw": {"optimizer": use("adamw", lr=0.02, weight_decay=0.1)},
    "adamw-without-decay": {"optimizer": use("adamw", weight_decay=0.0)},
    # penalties
    "l2": {"regularizers": [use("l2", coefficient=0.1)]},
    "l1": {"regularizers": [use("l1", coefficient=0.1)]},
    "elastic": {"regularizers": [use("elastic_net", l1=0.1, l2=0.2)]},
    "two-penalties": {"regularizers": [use("l2", coefficient=0.1), use("l1", coefficient=0.1, include=["*bias"])]},
    "proximal-l1": {"regularizers": [use("l1", coefficient=0.1, proximal=True)]},
    "proximal-elastic": {
        "regularizers": [use("elastic_net", l1=0.1, l2=0.2, proximal=True)],
        "optimizer": use("nesterov", lr=0.02),
    },
    "proximal-sgd": {
        "regularizers": [use("l1", coefficient=0.1, proximal=True)],
        "optimizer": use("sgd", lr=0.02),
    },
    "proximal-rmsprop": {
        "regularizers": [use("l1", coefficient=0.1, proximal=True), use("l2", include=["*bias"])],
        "optimizer": use("rmsprop", lr=0.01),
    },
    # clipping
    "clipped-by-norm": {"gradient_clip_val": 0.05},
    "clipped-by-value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "clipped-nesterov": {"gradient_clip_val": 0.05, "optimizer": use("nesterov", lr=0.1)},
    "clipped-two-groups": {"gradient_clip_val": 0.05, "optimizer": "adamw"},
    # schedules
    **{
        f"{name}-{interval}": {"scheduler": use(name, interval=interval), "max_epochs": 3}
        for name in ("cosine", "inverse_sqrt", "exponential")
        for interval in ("step", "epoch")
    },
    "one-cycle": {"scheduler": "one_cycle", "optimizer": use("sgd", lr=0.1)},
    "warmup": {"scheduler": use("warmup", steps=9)},
    "plateau": {"scheduler": use("plateau", patience=0), "max_epochs": 4},
    "plateau-on-training": {"scheduler": use("plateau", monitor="train/epoch_loss", patience=0), "max_epochs": 4},
    "scheduled-momentum": {"scheduler": use("inverse_sqrt", interval="step"), "optimizer": use("momentum", lr=0.02)},
    # losses and weights
    "bce": {"loss": "bce", "data": of("two")},
    "multiclass": {"loss": "cross_entropy", "data": of("three")},
    "multiclass-16": {"loss": "cross_entropy", "data": of("three", batch_size=16)},
    "weighted": {"data": of(weights="w")},
    "class-weighted": {"loss": "cross_entropy", "data": of("three", class_weight="balanced")},
    "absolute": {"loss": "l1"},
    "sum": {"reduction": "sum", "optimizer": use("sgd", lr=0.005), "regularizers": [use("l2", coefficient=0.1)]},
    # precision
    "double": {"precision": "64-true"},
    "double-batch-16": {"precision": "64-true", "data": of(batch_size=16), "optimizer": use("nesterov", lr=0.01)},
    "bf16": {"precision": "bf16-mixed"},
    "bf16-clipped": {"precision": "bf16-mixed", "gradient_clip_val": 0.05, "optimizer": "adamw"},
    "bf16-penalized": {"precision": "bf16-mixed", "regularizers": ["l2", use("l1", proximal=True)]},
    # networks that are no chain, or drop units
    "dropout": {"model": DROPPED},
    "annealed-dropout": {"model": Annealed, "max_epochs": 3},
    "batch-norm": {"model": NORMALIZED},
    "batch-norm-adamw": {"model": NORMALIZED, "optimizer": "adamw", "gradient_clip_val": 0.05},
    "own-network": {"model": lambda: nn.Sequential(nn.Linear(3, 4), nn.ELU(), nn.Linear(4, 1))},
    "own-chain": {"model": lambda: nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1))},
}


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("name", JOBS)
def test_steps_are_the_same(tmp_path, name, engine):
    ahead = name != "batch-full"  # an epoch of one step leaves nothing to run ahead to
    assert_alike(tmp_path, engine, runs_ahead=ahead, **JOBS[name])


@pytest.mark.parametrize("steps", [2, 64])
@pytest.mark.parametrize("name", ["plain", "batch-16", "scheduled-momentum"])
def test_any_number_of_steps_is_the_same(tmp_path, name, steps):
    assert_alike(tmp_path, "auto", calls=[steps], **JOBS[name])


def test_more_than_a_window_of_deferred_losses_is_the_same(tmp_path):
    """Losses are computed later, by the hundred: an epoch of 300 steps crosses several of these."""
    assert_alike(tmp_path, "analytic", data=of(n=500, batch_size=1), max_epochs=1, log_every_n_steps=200)


def test_chunks_were_used_where_batches_are_aligned(tmp_path):
    """Else the jobs of aligned batches would test nothing of their own."""
    for size, several in ((16, True), (7, False)):
        fit = Fit(tmp_path, 64, data=of(batch_size=size))()
        assert (fit.run.train_dataloader._batches_per_block > 1) == several


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("batch_size", [16, 30])
def test_streamed_rows_are_the_same(tmp_path, engine, batch_size):
    source = written(mixed_table(), tmp_path)

    def data():
        return TabularData(
            source, "y", features=FEATURES, weights="w", batch_size=batch_size, stream=True, standardize_target=True
        )

    assert_alike(tmp_path, engine, data=data)


class Quartic(Regularizer):
    """A penalty whose derivative nobody has written out."""

    def forward(self, parameters):
        return torch.stack([p.square().square().sum() for p in parameters.values()]).sum()


@pytest.mark.parametrize("engine", ["analytic", "autograd"])
def test_a_penalty_without_a_derivative_is_the_same(tmp_path, engine, distributions):
    distributions.offer("quartic", ("regularizers", "quartic", f"{__name__}:Quartic"))
    assert_alike(tmp_path, engine, regularizers=["quartic", use("l2", coefficient=0.1)])


class Stepping(torch.optim.Optimizer):
    """Somebody's optimizer; each tensor's is scaled by its norm, so it is not elementwise."""

    def __init__(self, params, lr: float = 0.05):
        super().__init__(params, {"lr": lr})

    def update(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["norm"] = p.grad.norm()
                    p.add_(p.grad / (self.state[p]["norm"] + 0.1), alpha=-group["lr"])

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.update()
        return loss


STEPPING = f"""
from torchplug import Capability, Component, hookimpl

@hookimpl
def torchplug_optimizers():
    target = "{__name__}:Stepping"
    return [
        Component("stepping", target, "declares its update", frozenset({{Capability.UPDATE}})),
        Component("adagrad", "torch.optim:Adagrad", "torch's own, whose steps need no declaration"),
    ]
"""


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("scheduler", [None, use("exponential", interval="step")])
@pytest.mark.parametrize("optimizer", ["stepping", "adagrad"])
def test_an_optimizer_of_a_plugin_is_the_same(tmp_path, engine, scheduler, optimizer, distributions):
    distributions.add("stepping", STEPPING)
    fit = assert_alike(tmp_path, engine, optimizer=optimizer, scheduler=scheduler, gradient_clip_val=0.5)
    assert len(fit.run.optimizers[0].state) == 4


class NoChain(nn.Sequential):
    """A subclass may compute anything, so its parameters stay where they are."""


@pytest.mark.parametrize("engine", ["auto", "autograd"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
def test_an_optimizer_saves_what_it_would_over_single_parameters(tmp_path, optimizer, engine):
    """In the middle of a fit and after it."""

    def fit(kind, steps, engine):
        def network():
            return kind(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))

        folder = tmp_path / kind.__name__
        folder.mkdir()
        options = {"optimizer": optimizer, "precision": "64-true", "callbacks": checkpoints}
        return Fit(folder, steps, engine, model=network, **options)().everything()

    def checkpoints(folder):
        return [ModelCheckpoint(folder, every_n_train_steps=5, save_top_k=-1, filename="{step}")]

    flat, single = fit(nn.Sequential, 7, engine), fit(NoChain, 1, "autograd")
    assert differences(flat, single, within=1e-11) == []
    for name in ("step=5.ckpt", "step=40.ckpt", "whole.ckpt"):
        saved = [torch.load(tmp_path / kind / name, weights_only=True) for kind in ("Sequential", "NoChain")]
        assert differences(*(s["optimizer_states"] for s in saved), within=1e-11) == []


@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_clipping_may_change_between_epochs(tmp_path, engine):
    class Tightening(Callback):
        def on_train_epoch_start(self, trainer, module):
            trainer.gradient_clip_val = 0.5 / (1 + trainer.current_epoch)

    found = [
        Fit(
            tmp_path / str(steps),
            steps,
            engine,
            callbacks=lambda _: [Tightening()],
            gradient_clip_val=0.5,
            max_epochs=3,
        )()
        for steps in (1, 16)
    ]
    assert differences(found[0].parameters, found[1].parameters) == []
    assert found[1].calls < found[0].calls
