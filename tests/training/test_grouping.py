"""How many steps a call makes, and why it makes one."""

from types import SimpleNamespace

import lightning
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import (
    DeviceStatsMonitor,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    RichProgressBar,
    StochasticWeightAveraging,
    Timer,
    TQDMProgressBar,
)
from lightning.pytorch.profilers import AdvancedProfiler, PassThroughProfiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy, DeepSpeedStrategy, FSDPStrategy, SingleDeviceStrategy
from torch import nn

from torchplug import ComponentModule
from torchplug.training.grouping import steps_per_execution, steps_per_graph, steps_until_event, why_single_steps

# ---------------------------------------------------------------------- why one


def of_kind(kind):
    """An object of a class, as far as isinstance goes."""
    return kind.__new__(kind)


def asking(**changes):
    """A trainer, as far as the reasons ask."""
    plain = {
        "accumulate_grad_batches": 1,
        "precision": "32-true",
        "strategy": of_kind(SingleDeviceStrategy),
        "fast_dev_run": 0,
        "world_size": 1,
        "lightning_module": ComponentModule("linear"),
        "callbacks": [],
        "profiler": PassThroughProfiler(),
        "optimizers": [torch.optim.SGD([nn.Parameter(torch.zeros(1))])],
    }
    return SimpleNamespace(**{**plain, **changes})


def hooked(name):
    """A callback with one hook."""
    return type("Hooked", (Callback,), {name: lambda self, *arguments: None})()


def overriding(name):
    """A module of the user's that overrides one method."""
    return type("Overriding", (ComponentModule,), {name: lambda self, *arguments: None})("linear")


BATCH_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
OWN_STEPS = (
    *BATCH_HOOKS,
    "training_step",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "transfer_batch_to_device",
    "on_before_batch_transfer",
    "on_after_batch_transfer",
)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"precision": "64-true"},
        {"precision": "bf16-mixed"},
        {"strategy": of_kind(DDPStrategy), "world_size": 2},
        {"lightning_module": None},
        {
            "callbacks": [
                ModelCheckpoint(every_n_train_steps=3),
                EarlyStopping("val/loss"),
                LearningRateMonitor(),
                TQDMProgressBar(),
                RichProgressBar(),
                Timer({"hours": 1}),
                GradientAccumulationScheduler({0: 1}),
                StochasticWeightAveraging(1e-3),
                hooked("on_train_epoch_start"),
                hooked("on_validation_batch_end"),
            ]
        },
        {"lightning_module": overriding("on_train_epoch_start")},
        {"lightning_module": overriding("on_fit_start")},
        {
            "lightning_module": ComponentModule(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))),
        },
    ],
)
def test_nothing_stands_in_the_way(changes):
    assert why_single_steps(asking(**changes)) is None


REASONS = [
    ({"accumulate_grad_batches": 2}, "gradients are accumulated"),
    ({"precision": "16-mixed"}, "precision 16-mixed scales or rounds in steps of its own"),
    ({"precision": "bf16-true"}, "precision bf16-true scales or rounds in steps of its own"),
    ({"precision": "transformer-engine"}, "precision transformer-engine scales"),
    ({"strategy": of_kind(FSDPStrategy)}, "the strategy FSDPStrategy divides the parameters"),
    ({"strategy": of_kind(DeepSpeedStrategy)}, "the strategy DeepSpeedStrategy divides the parameters"),
    ({"fast_dev_run": 3}, "fast_dev_run needs every step"),
    ({"profiler": SimpleProfiler()}, "the profiler measures single steps"),
    ({"profiler": AdvancedProfiler()}, "the profiler measures single steps"),
    (
        {
            "strategy": of_kind(DDPStrategy),
            "world_size": 2,
            "lightning_module": ComponentModule(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))),
        },
        "DDP synchronizes the network's buffers",
    ),
    ({"callbacks": [DeviceStatsMonitor()]}, "the callback DeviceStatsMonitor looks at single batches"),
    ({"callbacks": [EMAWeightAveraging(decay=0.9)]}, "the callback EMAWeightAveraging looks at single batches"),
    (
        {"optimizers": [torch.optim.LBFGS([nn.Parameter(torch.zeros(1))])]},
        "the optimizer LBFGS evaluates gradients by itself",
    ),
    *(({"callbacks": [Timer(), hooked(name)]}, "the callback Hooked looks at single batches") for name in BATCH_HOOKS),
    *(({"lightning_module": overriding(name)}, f"Overriding has a {name} of its own") for name in OWN_STEPS),
]


@pytest.mark.parametrize(("changes", "reason"), REASONS, ids=[str(i) for i in range(len(REASONS))])
def test_what_stands_in_the_way_is_named(changes, reason):
    found = why_single_steps(asking(**changes))
    assert found is not None
    assert found.startswith(reason)


@pytest.mark.parametrize("kind", [ModelCheckpoint, LearningRateMonitor, TQDMProgressBar, Timer])
def test_a_known_callback_that_was_changed_is_an_unknown_one(kind):
    changed = type("Changed", (kind,), {"on_train_batch_end": lambda self, *arguments: None})()
    assert why_single_steps(asking(callbacks=[changed])) == "the callback Changed looks at single batches"
    alike = type("Alike", (kind,), {"on_train_epoch_end": lambda self, *arguments: None})()
    assert why_single_steps(asking(callbacks=[alike])) is None


def test_a_method_given_to_an_object_counts():
    """Not only one that its class defines."""
    callback, module = Callback(), ComponentModule("linear")
    callback.on_train_batch_end = lambda *arguments: None
    assert why_single_steps(asking(callbacks=[callback])) == "the callback Callback looks at single batches"
    module.on_after_backward = lambda *arguments: None
    assert why_single_steps(asking(lightning_module=module)) == "ComponentModule has a on_after_backward of its own"


# ---------------------------------------------------------------------- how many at most


@pytest.mark.parametrize("asked", [1, 2, 7, 10**6])
def test_what_is_asked_for_is_what_is_tried(asked):
    assert steps_per_execution(asked, nn.Linear(3, 1), 32) == asked


def test_large_models_and_batches_make_fewer_steps_per_execution():
    """Where a step takes a tenth of a second, overhead no longer matters."""
    assert steps_per_execution("auto", nn.Linear(3, 1), 32) == 4096
    sizes = [steps_per_execution("auto", nn.Linear(1000, width), 1000) for width in (10, 100, 1000, 2000)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[-1] >= 1
    assert steps_per_execution("auto", nn.Linear(10**4, 10**3), 10**4) == 1


# ---------------------------------------------------------------------- how many now


def at(here=0, step=None, epoch=0, batches=100, **changes):
    """A trainer in the middle of an epoch, `here` of whose batches are done."""
    step = here if step is None else step
    progress = SimpleNamespace(current=SimpleNamespace(ready=here), total=SimpleNamespace(ready=epoch * batches + here))
    loop = SimpleNamespace(batch_progress=progress, min_steps=changes.pop("min_steps", None))
    plain = {
        "should_stop": False,
        "training": True,
        "state": SimpleNamespace(stopped=False),
        "accumulate_grad_batches": 1,
        "fit_loop": SimpleNamespace(epoch_loop=loop),
        "global_step": step,
        "num_training_batches": batches,
        "max_steps": -1,
        "enable_validation": False,
        "check_val_every_n_epoch": 1,
        "val_check_batch": batches,
        "checkpoint_callbacks": [],
        "lr_scheduler_configs": [],
        "progress_bar_callback": None,
    }
    return SimpleNamespace(**{**plain, **changes})


def saving(every):
    return [ModelCheckpoint(every_n_train_steps=every)]


def scheduled(interval="step", plateau=True, frequency=1):
    return [SimpleNamespace(interval=interval, reduce_on_plateau=plateau, frequency=frequency)]


CALLS = [
    ("nobody looks", {}, 16, 16),
    ("the epoch ends", {"here": 95}, 16, 5),
    ("the epoch's last batch", {"here": 99}, 16, 1),
    ("one epoch, one batch", {"batches": 1}, 16, 1),
    ("more than the epoch", {}, 10**6, 100),
    ("an endless epoch", {"batches": float("inf")}, 16, 16),
    ("single", {"here": 3}, 1, 1),
    ("stopping", {"should_stop": True}, 16, 1),
    ("accumulating now", {"accumulate_grad_batches": 4}, 16, 1),
    ("the last step", {"here": 3, "max_steps": 13}, 16, 10),
    ("the last step of all", {"here": 3, "max_steps": 4}, 16, 1),
    ("the last step far off", {"here": 3, "max_steps": 40}, 16, 16),
    ("the last step in a later epoch", {"here": 3, "step": 203, "max_steps": 210}, 16, 7),
    ("fewest steps", {"here": 3, "min_steps": 10}, 16, 7),
    ("fewest steps done", {"here": 30, "min_steps": 10}, 16, 16),
    ("fewest steps in a later epoch", {"here": 3, "step": 203, "min_steps": 205}, 16, 2),
    ("validated at the epoch's end", {"here": 90, "enable_validation": True}, 16, 10),
    ("validated every 7", {"here": 3, "enable_validation": True, "val_check_batch": 7}, 16, 4),
    ("validated every 7, just done", {"here": 7, "enable_validation": True, "val_check_batch": 7}, 16, 7),
    (
        "validated every 7 of all batches",
        {"here": 3, "epoch": 1, "enable_validation": True, "val_check_batch": 7, "check_val_every_n_epoch": None},
        16,
        2,
    ),
    ("validated by time", {"here": 3, "enable_validation": True, "val_check_batch": None}, 16, 16),
    ("never validated", {"here": 3, "enable_validation": True, "val_check_batch": float("inf")}, 16, 16),
    ("not validated", {"here": 3, "val_check_batch": 7}, 16, 16),
    ("saved every 5", {"here": 3, "checkpoint_callbacks": saving(5)}, 16, 2),
    ("saved every 5 of all steps", {"here": 3, "step": 101, "checkpoint_callbacks": saving(5)}, 16, 4),
    ("just saved", {"here": 10, "checkpoint_callbacks": saving(5)}, 16, 5),
    ("saved by two", {"here": 3, "checkpoint_callbacks": [*saving(50), *saving(4)]}, 16, 1),
    ("saved at epochs", {"here": 3, "checkpoint_callbacks": [ModelCheckpoint(every_n_epochs=1)]}, 16, 16),
    ("scheduled by a metric", {"here": 3, "lr_scheduler_configs": scheduled(frequency=5)}, 16, 2),
    ("scheduled by a metric at epochs", {"here": 3, "lr_scheduler_configs": scheduled("epoch")}, 16, 16),
    ("scheduled by steps", {"here": 3, "lr_scheduler_configs": scheduled(plateau=False)}, 16, 16),
    ("a bar", {"here": 0, "progress_bar_callback": TQDMProgressBar(refresh_rate=10)}, 16, 10),
    ("a bar that moves seldom", {"here": 0, "progress_bar_callback": TQDMProgressBar(refresh_rate=50)}, 16, 16),
    ("a bar about to move", {"here": 45, "progress_bar_callback": TQDMProgressBar(refresh_rate=50)}, 16, 5),
    ("a bar that moves always", {"here": 5, "progress_bar_callback": TQDMProgressBar(refresh_rate=1)}, 16, 16),
    ("a bar switched off", {"here": 5, "progress_bar_callback": TQDMProgressBar(refresh_rate=0)}, 16, 16),
    ("a bar at the end", {"here": 90, "progress_bar_callback": TQDMProgressBar(refresh_rate=50)}, 16, 10),
    (
        "everybody",
        {
            "here": 12,
            "max_steps": 30,
            "enable_validation": True,
            "val_check_batch": 20,
            "checkpoint_callbacks": saving(5),
        },
        16,
        3,
    ),
]


@pytest.mark.parametrize(("trainer", "most", "expected"), [call[1:] for call in CALLS], ids=[c[0] for c in CALLS])
def test_a_call_ends_where_somebody_looks(trainer, most, expected):
    assert steps_until_event(at(**trainer), most) == expected


@pytest.mark.parametrize(
    ("most", "batches", "every", "expected"),
    [
        (1, 100, 50, 1),  # all steps are Lightning's
        (8, 100, 50, 7),  # all that a call makes
        (1024, 9, 50, 8),  # all that an epoch has
        (1024, 1, 50, 1),
        (1024, 400, 50, 10),  # so that the row of each 50 comes at an end
        (1024, 400, 64, 16),
        (1024, 400, 17, 16),  # 17 has no divisor worth it
        (1024, 400, 5, 5),
        (1024, 400, 1, 1),  # a row after each step
        (1024, 400, 0, 16),  # no rows
        (1024, float("inf"), 50, 10),
    ],
)
def test_a_graph_holds_what_comes_before_somebody_looks(most, batches, every, expected):
    assert steps_per_graph(SimpleNamespace(num_training_batches=batches, log_every_n_steps=every), most) == expected


def test_the_hooks_are_lightnings():
    """A hook that Lightning renames would be looked for in vain."""
    for name in BATCH_HOOKS:
        assert callable(getattr(lightning.pytorch.Callback, name))
    for name in OWN_STEPS:
        assert callable(getattr(lightning.LightningModule, name))
