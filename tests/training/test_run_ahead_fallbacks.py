"""Where steps are made one by one, and what is said then; callbacks and modules that change a fit on its way."""

import logging
from functools import partial

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    BatchSizeFinder,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LambdaCallback,
    LearningRateMonitor,
    StochasticWeightAveraging,
)
from lightning.pytorch.tuner import Tuner
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, TensorDataset

from compared_fits import MLP, Fit, assert_alike, differences, made
from torchplug import ComponentModule, use
from torchplug.errors import ConfigurationError


class Watching(Callback):
    """Looks at every batch."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, run, module, outputs, batch, index):
        self.seen.append((index, run.global_step, len(batch.target)))


class Own(ComponentModule):
    """With a training step of its own."""

    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx) * 1.0


class OwnClipping(ComponentModule):
    """With clipping of its own."""

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, 0.01, "value")


OBSTACLES = {
    "accumulated": ({"accumulate_grad_batches": 2}, "gradients are accumulated"),
    "bf16-true": ({"precision": "bf16-true"}, "precision bf16-true"),
    "fast-dev-run": ({"fast_dev_run": 5}, "fast_dev_run needs every step"),
    "callback": ({"callbacks": lambda _: [Watching()]}, "the callback Watching looks at single batches"),
    "profiler": ({"profiler": "simple"}, "the profiler measures single steps"),
}


@pytest.mark.parametrize("name", OBSTACLES)
def test_an_obstacle_is_named_and_steps_are_single(tmp_path, name, capsys):
    settings, reason = OBSTACLES[name]
    fit = Fit(tmp_path, "auto", **settings)
    fit()
    capsys.readouterr()
    (note,) = fit.module.notes(fit.run, 7)
    assert note.startswith(f"steps_per_execution is 1: {reason}")
    per_step = settings.get("accumulate_grad_batches", 1)
    assert fit.calls == (44 if per_step == 2 else fit.run.global_step)


def test_nothing_is_said_where_nothing_stands_in_the_way(tmp_path):
    fit = Fit(tmp_path)()
    assert fit.module.notes(fit.run, 7) == []


@pytest.mark.parametrize("name", OBSTACLES)
def test_several_steps_that_cannot_be_had_are_refused(tmp_path, name):
    settings, reason = OBSTACLES[name]
    with pytest.raises(
        ConfigurationError, match=f"^steps_per_execution 8: {reason}.*leave it at auto, or set it to 1$"
    ):
        Fit(tmp_path, 8, **settings)()


@pytest.mark.parametrize("kind", [Own, OwnClipping])
def test_a_module_with_steps_of_its_own_makes_them(tmp_path, kind):
    single, auto = (
        Fit(made(tmp_path / str(steps)), module=kind(MLP, "mse", "adam", steps_per_execution=steps))()
        for steps in (1, "auto")
    )
    assert auto.calls == auto.run.global_step
    assert differences(single.everything(), auto.everything()) == []
    (note,) = auto.module.notes(auto.run, 7)
    assert note.startswith(f"steps_per_execution is 1: {kind.__name__} has a ")
    with pytest.raises(ConfigurationError, match=f"steps_per_execution 8: {kind.__name__} has a"):
        Fit(made(tmp_path / "8"), module=kind(MLP, "mse", "adam", steps_per_execution=8))()


def test_a_callback_on_single_batches_sees_each(tmp_path):
    watching = Watching()
    Fit(tmp_path, callbacks=lambda _: [watching])()
    expected = [(i, 22 * epoch + i + 1, 7 if i < 21 else 3) for epoch in range(2) for i in range(22)]
    assert watching.seen == expected


@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_train_batch_end", "on_before_optimizer_step"])
def test_hooks_that_are_given_to_an_object_count_as_its_own(tmp_path, hook):
    """Not only those that its class defines."""
    calls = []
    callback = LambdaCallback(**{hook: lambda *_: calls.append(hook)})
    fit = Fit(tmp_path, callbacks=lambda _: [callback])()
    assert len(calls) == fit.run.global_step


def test_a_monitor_with_more_to_watch_is_an_unknown_one(tmp_path):
    class Counting(LearningRateMonitor):
        batches = 0

        def on_train_batch_start(self, *args, **kwargs):
            self.batches += 1
            super().on_train_batch_start(*args, **kwargs)

    counting = Counting()
    fit = Fit(tmp_path, callbacks=lambda _: [counting])()
    assert counting.batches == fit.run.global_step == fit.calls


def test_hooks_of_an_optimizer_run_at_every_step(tmp_path):
    """Its own, which may be added on the way, and those for all optimizers."""
    calls = []

    class Hooking(Callback):
        def on_train_epoch_start(self, run, module):
            if run.current_epoch == 1:
                run.optimizers[0].register_step_pre_hook(lambda *_: calls.append("own"))

    handle = register_optimizer_step_post_hook(lambda *_: calls.append("all"))
    try:
        Fit(tmp_path, 7, callbacks=lambda _: [Hooking()])()
    finally:
        handle.remove()
    assert calls.count("own") == 22
    assert calls.count("all") == 44


class Searching(torch.optim.LBFGS):
    """Evaluates F as often as it likes: it cannot do without a closure."""

    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr, max_iter=3)


def test_an_optimizer_that_must_have_a_closure_gets_one(tmp_path, distributions):
    distributions.offer("searching", ("optimizers", "searching", f"{__name__}:Searching"))
    network = partial(nn.Linear, 3, 1)
    single, auto = (Fit(made(tmp_path / str(k)), k, optimizer="searching", model=network)() for k in (1, "auto"))
    assert differences(single.parameters, auto.parameters) == []
    with pytest.raises(
        ConfigurationError, match="steps_per_execution 7: the optimizer searching may evaluate the loss by itself"
    ):
        Fit(made(tmp_path / "7"), 7, optimizer="searching", model=network)()


# ---------------------------------------------------------------------- loaders


def test_a_loader_of_the_users_own_trains_by_single_steps(tmp_path):
    X = torch.randn(60, 3, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(X, X.sum(1)), batch_size=8)
    single, several, auto = (
        Fit(made(tmp_path / str(steps)), steps, model=partial(nn.Linear, 3, 1), data=lambda: loader)()
        for steps in (1, 7, "auto")
    )
    assert single.calls == several.calls == auto.calls == 16
    for other in (several, auto):
        assert differences(single.parameters, other.parameters) == []
        assert differences(single.recorder.rows, other.recorder.rows) == []


# ---------------------------------------------------------------------- what changes on the way


class Freezing(Callback):
    """Freezes and thaws layers at the start of epochs: the first layer's in epoch 1, everything but it in epoch 3."""

    def on_train_epoch_start(self, run, module):
        first, *others = list(module.network.parameters())
        frozen = {1: [first], 3: others}.get(run.current_epoch, [])
        for p in module.network.parameters():
            p.requires_grad_(all(p is not f for f in frozen))


@pytest.mark.parametrize("optimizer", [use("sgd", lr=0.05), "adamw", use("nesterov", lr=0.02)])
def test_layers_may_freeze_and_thaw(tmp_path, optimizer):
    options = {"callbacks": lambda _: [Freezing()], "optimizer": optimizer, "max_epochs": 5, "precision": "64-true"}
    single = assert_alike(tmp_path / "auto", "auto", **options)
    autograd = assert_alike(tmp_path / "autograd", "autograd", **options)
    assert differences(single.parameters, autograd.parameters, within=1e-10) == []


class Thawing(BaseFinetuning):
    """Lightning's own: the first layer joins in epoch 1, as a group of its own."""

    def freeze_before_training(self, module):
        self.freeze(module.network.layers[0])

    def finetune_function(self, module, epoch, optimizer):
        if epoch == 1:
            self.unfreeze_and_add_param_group(module.network.layers[0], optimizer, lr=0.05)


@pytest.mark.parametrize("engine", ["auto", "autograd"])
def test_lightnings_finetuning_is_the_same(tmp_path, engine):
    options = {"callbacks": lambda _: [Thawing()], "optimizer": use("momentum", lr=0.05), "max_epochs": 3}
    single = assert_alike(tmp_path, engine, precision="64-true", **options)
    first = single.snapshots.taken[0]["layers.0.weight"]
    assert not torch.equal(single.parameters["layers.0.weight"], first), "it never joined"
    assert len(single.run.optimizers[0].param_groups) == 2


def test_averaged_weights_are_the_same(tmp_path):
    def averaging(_):
        return [StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2)]

    assert_alike(tmp_path, "auto", callbacks=averaging, max_epochs=5)


def test_exponentially_averaged_weights_are_the_same(tmp_path):
    def averaging(_):
        return [EMAWeightAveraging(decay=0.5)]

    assert_alike(tmp_path, "auto", calls=["auto"], callbacks=averaging, runs_ahead=False)


@pytest.mark.filterwarnings("ignore:When using `Trainer")  # Lightning's remark on accumulation by a callback
def test_accumulation_that_changes_on_the_way_is_the_same(tmp_path):
    def accumulating(_):
        return [GradientAccumulationScheduler({0: 1, 1: 3, 2: 1})]

    assert_alike(tmp_path, "auto", callbacks=accumulating, max_epochs=4, scheduler=use("exponential", interval="step"))


class Forgetting(Callback):
    """Sets gradients to None at the start of an epoch, in each way there is."""

    def __init__(self, way):
        self.way = way

    def on_train_epoch_start(self, run, module):
        if self.way == "optimizer":
            run.optimizers[0].zero_grad()
        elif self.way == "module":
            module.zero_grad()


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("way", ["optimizer", "module"])
def test_gradients_may_be_forgotten_between_epochs(tmp_path, way, steps):
    plain = Fit(made(tmp_path / "plain"), steps)()
    fit = Fit(made(tmp_path / "other"), steps, callbacks=lambda _: [Forgetting(way)])()
    assert differences(plain.parameters, fit.parameters) == []


class OwnOptimizer(ComponentModule):
    """With an optimizer that it builds itself."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def test_a_module_that_builds_its_optimizer_trains(tmp_path):
    single, auto = (
        Fit(made(tmp_path / str(steps)), module=OwnOptimizer(MLP, "mse", steps_per_execution=steps))()
        for steps in (1, "auto")
    )
    assert differences(single.everything(), auto.everything()) == []


def test_tuners_run(tmp_path):
    fit = Fit(tmp_path, max_epochs=5)
    found = Tuner(fit.run).lr_find(fit.module, fit.data, num_training=8, update_attr=False)
    assert len(found.results["lr"]) == 8
    fit()
    assert differences(fit.parameters, Fit(made(tmp_path / "plain"), 1, max_epochs=5)().parameters) == []


def test_a_search_for_the_batch_size_runs(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    fit = Fit(tmp_path, callbacks=lambda _: [BatchSizeFinder(max_trials=2, steps_per_trial=3, init_val=4)])
    fit()
    assert fit.data.batch_size > 4
    assert fit.run.global_step > 0
