"""`fit_many`: each model is the one that its own fit gives."""

import logging
import os
import signal
import threading
from contextlib import contextmanager

import polars
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping

from compared_fits import table
from many.single_fits import FOLDS, WITHIN, assert_equal, data, single
from torchplug import ComponentModule, TabularData, fit_many, use
from torchplug.errors import ConfigurationError, DataError

LINEAR, MLP = use("linear"), use("mlp", hidden=[5], activation="tanh")


def grid(**common):
    """Four configurations: two rates, two penalties."""
    return [
        {**common, "optimizer": use("adam", lr=lr), "regularizers": [use("l2", coefficient=coefficient)]}
        for lr in (0.01, 0.1)
        for coefficient in (0.1, 0.001)
    ]


def seeds(optimizer, small=False, **common):
    """Two rates, each from a seed of its own."""
    rates = (0.001, 0.002) if small else (0.02, 0.05)
    return [{**common, "optimizer": use(optimizer, lr=lr), "seed": seed} for seed, lr in enumerate(rates)]


@contextmanager
def noted(caplog):
    """Notes that Lightning's logger is given are captured."""
    logger = logging.getLogger("lightning.pytorch")
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.INFO, "lightning.pytorch"):
        yield
    logger.removeHandler(caplog.handler)


DROPPED = [
    {"model": use("mlp", hidden=[5, 4], dropout=rate), "optimizer": use("adam", lr=0.01), "seed": seed}
    for seed, rate in enumerate((0.1, 0.5))
]
SCHEDULED = [
    {"model": MLP, "optimizer": use("momentum", lr=0.02), "scheduler": scheduler}
    for scheduler in (None, use("one_cycle"), use("exponential", decay=0.5), use("plateau", patience=0, threshold=0.1))
]
LASSO = [use("l1", coefficient=0.02, proximal=True)]
NET = [use("elastic_net", l1=0.01, l2=0.02, proximal=True)]
CASES = {
    "linear": (grid(model=LINEAR), {}),
    "no-bias": (grid(model=use("linear", bias=False)), {}),
    "logistic": (grid(model=LINEAR, loss="bce"), {"target": "two"}),
    "multinomial": (grid(model=LINEAR, loss="cross_entropy"), {"target": "three", "categories": ["three"]}),
    "two-targets": (grid(model=MLP), {"target": ["y", "z"]}),
    "weighted": (grid(model=MLP), {"weights": "w"}),
    "robust-scale": (grid(model=MLP), {"scale": "robust"}),
    "quantile-scale": (grid(model=LINEAR), {"scale": "quantile"}),
    "huber": ([{"model": MLP, "loss": use("huber", delta=d), "optimizer": "sgd"} for d in (0.3, 1.0)], {}),
    "quantile": (seeds("sgd", model=LINEAR, loss=use("quantile", quantiles=[0.2, 0.9])), {}),
    "poisson-sum": (seeds("adam", model=LINEAR, loss="poisson_nll", reduction="sum"), {"target": "count"}),
    "dropout": (DROPPED, {}),
    "schedules": (SCHEDULED, {}),
    "nesterov-lasso": (seeds("nesterov", model=MLP, regularizers=LASSO), {}),
    "momentum-lasso": (seeds("momentum", model=LINEAR, regularizers=LASSO), {}),
    "adam-elastic-net": (seeds("adam", model=LINEAR, regularizers=NET), {}),
    "rmsprop": (seeds("rmsprop", model=MLP, regularizers=[use("l1", coefficient=0.01)]), {}),
    "decay": (seeds("adamw", model=LINEAR), {}),
    "groups": (seeds("adamw", model=MLP, groups={"bias": {"lr": 0.1}, "layers.0.*": {"weight_decay": 0.2}}), {}),
    "groups-scheduled": (seeds("momentum", model=MLP, groups={"bias": {"lr": 0.1}}, scheduler="exponential"), {}),
    "large": (seeds("nesterov", small=True, model=use("mlp", hidden=[70, 60], dropout=0.2), regularizers=LASSO), {}),
    "large-decay": (seeds("adamw", small=True, model=use("mlp", hidden=[70, 60])), {}),
}


IN_SINGLE = ("linear", "logistic", "multinomial", "dropout", "schedules", "nesterov-lasso", "large-decay")
FITS = [(case, "64-true") for case in CASES] + [(case, "32-true") for case in IN_SINGLE]


@pytest.mark.parametrize(("case", "precision"), FITS)
def test_each_model_is_the_one_of_its_own_fit(tmp_path, case, precision):
    configs, of_data = CASES[case]
    settings = {"max_epochs": 3, "precision": precision}
    target = of_data.get("target", "y")
    others = {name: value for name, value in of_data.items() if name != "target"}
    results = fit_many(configs, data(target, **others), FOLDS, {"accelerator": "cpu", **settings})
    assert len(results) == len(configs) * len(FOLDS)
    for c, f in [(0, 0), (1, 1), *((c, 2) for c in range(len(configs)))]:
        module, run = single(tmp_path, configs[c], data(target, **others).fold(*FOLDS[f]), **settings)
        assert_equal(results[c * len(FOLDS) + f], module, run, WITHIN[precision])


@pytest.mark.parametrize("precision", ["64-true", "32-true"])
def test_batch_normalization_is_trained_fold_by_fold(tmp_path, precision, caplog):
    configs = seeds("adam", model=use("mlp", hidden=[5], batch_norm=True))
    settings = {"max_epochs": 2, "precision": precision}
    folds = [(range(40, 250), range(40)), (range(140), range(140, 170))]
    with noted(caplog):
        results = fit_many(configs, data(batch_size=20), folds, {"accelerator": "cpu", **settings})
    assert "training 4 models in 2 programs" in caplog.text
    for c, config in enumerate(configs):
        for f, fold in enumerate(folds):
            module, run = single(tmp_path, config, data(batch_size=20).fold(*fold), **settings)
            assert_equal(results[c * 2 + f], module, run, WITHIN[precision])


def test_without_folds_the_datas_own_split_holds_and_a_full_batch_is_one_step(tmp_path):
    configs = grid(model=MLP)
    for batch_size in (7, "full"):
        results = fit_many(configs, data(batch_size=batch_size), trainer={"accelerator": "cpu", "max_epochs": 3})
        for result, config in zip(results, configs, strict=True):
            module, run = single(tmp_path, config, data(batch_size=batch_size), max_epochs=3)
            assert_equal(result, module, run, 1e-4)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_model_by_model(tmp_path, algorithm):
    settings = {"gradient_clip_val": 0.3, "gradient_clip_algorithm": algorithm, "max_epochs": 2, "precision": "64-true"}
    configs = seeds("sgd", model=MLP)
    results = fit_many(configs, data(), trainer={"accelerator": "cpu", **settings})
    for result, config in zip(results, configs, strict=True):
        module, run = single(tmp_path, config, data(), **settings)
        assert_equal(result, module, run, 1e-9)


def test_a_model_that_diverges_stands_still_and_the_others_go_on(tmp_path):
    good, bad = {"model": LINEAR, "optimizer": use("sgd", lr=0.01)}, {"model": LINEAR, "optimizer": use("sgd", lr=1e30)}
    settings = {"max_epochs": 3, "precision": "64-true"}
    results = fit_many([good, bad, good], data(), trainer={"accelerator": "cpu", **settings})
    module, run = single(tmp_path, good, data(), **settings)
    for result in (results[0], results[2]):
        assert result.outcome.name == "limit"
        assert_equal(result, module, run, 1e-9)
    assert results[1].outcome.name == "stalled"
    assert "is NaN or infinite at epoch 0, step" in results[1].outcome.reason
    assert "learning rate" in results[1].outcome.remedy
    assert all(bool(p.isfinite().all()) for p in results[1].module.network.parameters())


LARGE = use("mlp", hidden=[70, 60], activation="tanh")


@pytest.mark.parametrize(
    ("model", "optimizer", "others"),
    [
        (MLP, "adam", {"scheduler": use("exponential", decay=0.9)}),
        (use("mlp", hidden=[5], dropout=0.2), "nesterov", {"regularizers": LASSO}),
        (LARGE, "nesterov", {"regularizers": LASSO, "scheduler": use("cosine", interval="step")}),
        (LARGE, "adamw", {}),
        (use("mlp", hidden=[5, 5]), "adam", {"loss": use("huber", delta=0.3)}),
    ],
    ids=["schedule", "dropout", "large-prox", "large", "loss"],
)
def test_early_stopping_watches_each_model_for_itself(tmp_path, model, optimizer, others):
    """Those that have stopped are left out of the program, once they are many enough."""
    rates = (0.02, 0.01, 1e-6) if model is LARGE or optimizer == "nesterov" else (0.3, 0.1, 1e-5)
    configs = [{"model": model, "optimizer": use(optimizer, lr=lr), **others} for lr in rates]
    if "loss" in others:
        configs[2]["loss"] = use("huber", delta=0.6)
    settings = {"max_epochs": 12, "precision": "64-true", "callbacks": [EarlyStopping("val/loss", patience=1)]}
    results = fit_many(configs, data(), FOLDS[:2], {"accelerator": "cpu", **settings})
    epochs = set()
    for c, config in enumerate(configs):
        for f, fold in enumerate(FOLDS[:2]):
            module, run = single(tmp_path, config, data().fold(*fold), **settings)
            assert_equal(results[2 * c + f], module, run, 1e-9)
            epochs.add(run.current_epoch)
            stopped = run.current_epoch < 12
            assert ("did not improve" in results[2 * c + f].outcome.reason) == stopped
    assert len(epochs) > 2, "they stop at different times"


def test_a_model_that_has_stopped_keeps_its_running_means(tmp_path):
    model = use("mlp", hidden=[5], batch_norm=True)
    configs = [{"model": model, "optimizer": use("adam", lr=lr)} for lr in (0.5, 0.001)]
    settings = {"max_epochs": 8, "precision": "64-true", "callbacks": [EarlyStopping("val/loss", patience=1)]}
    results = fit_many(configs, data(batch_size=25), trainer={"accelerator": "cpu", **settings})
    epochs = []
    for result, config in zip(results, configs, strict=True):
        module, run = single(tmp_path, config, data(batch_size=25), **settings)
        assert_equal(result, module, run, 1e-9)
        epochs.append(run.current_epoch)
    assert epochs[0] < epochs[1], "the first stops before the second"


def test_what_cannot_share_a_program_is_trained_alone_and_a_note_says_why(tmp_path, caplog):
    own = torch.nn.Sequential(torch.nn.Linear(3, 1))
    configs = [
        {"model": LINEAR, "optimizer": use("sgd", lr=0.01)},
        {"model": LINEAR, "optimizer": use("sgd", lr=0.02)},
        {"model": MLP, "optimizer": "adam"},
        {"model": LINEAR, "optimizer": "closed_form"},
        {"model": own, "optimizer": "adam"},
        {"model": MLP, "engine": "autograd"},
        {"model": use("mlp", hidden=[4], batch_norm=True, dropout=0.5)},
    ]
    with noted(caplog):
        results = fit_many(configs, data(), FOLDS[:2], {"accelerator": "cpu", "max_epochs": 2})
    note = next(r.message for r in caplog.records if "models in" in r.message)
    assert note.startswith("training 6 models in 2 programs and 8 models one by one (")
    for reason in ("closed_form sees the whole training set", "nn.Module of your own", "engine is chosen", "drops"):
        assert reason in note
    for c, config in enumerate(configs):
        if c == 4:
            torch.nn.init.zeros_(own[0].weight)  # each fit has its own copy
            continue
        module, run = single(tmp_path, config, data().fold(*FOLDS[1]), max_epochs=2)
        assert_equal(results[2 * c + 1], module, run, 1e-4)
    assert results[6].outcome.name == "converged"
    first, second = (results[k].module.network[0].weight for k in (8, 9))
    assert not torch.equal(first, second)
    assert bool(first.any())


class Watching(Callback):
    """Counts epochs."""

    def __init__(self):
        self.epochs = 0

    def on_train_epoch_end(self, trainer, pl_module):
        self.epochs += 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"accumulate_grad_batches": 2}, "the Trainer's setting accumulate_grad_batches is chosen"),
        ({"callbacks": [Watching()]}, "the callback Watching watches a Trainer"),
        ({"precision": "bf16-mixed"}, "precision bf16-mixed rounds within the network"),
        ({"callbacks": EarlyStopping("val/rmse")}, "EarlyStopping watches val/rmse"),
        ({"limit_train_batches": 3}, "the Trainer's setting limit_train_batches is chosen"),
    ],
)
def test_settings_that_no_program_follows_hold_all_the_same(tmp_path, settings, reason, caplog):
    settings = {"max_epochs": 2, **settings}
    configs = seeds("sgd", model=LINEAR)
    with noted(caplog):
        results = fit_many(configs, data(), trainer={"accelerator": "cpu", **settings})
    assert f"training 2 models one by one ({reason})" in caplog.text
    for result, config in zip(results, configs, strict=True):
        module, run = single(tmp_path, config, data(), **settings)
        assert_equal(result, module, run, 1e-6)


def test_a_schedule_that_watches_another_metric_trains_alone(tmp_path, caplog):
    config = {"model": MLP, "scheduler": use("plateau", monitor="val/rmse", patience=0, threshold=0.5)}
    with noted(caplog):
        settings = {"accelerator": "cpu", "max_epochs": 3, "log_every_n_steps": 1}
        (result,) = fit_many([config], data(), trainer=settings)
    assert "one by one (its schedule watches val/rmse)" in caplog.text
    assert_equal(result, *single(tmp_path, config, data(), max_epochs=3), 1e-6)


def test_folds_of_other_features_or_without_validation_have_programs_of_their_own(tmp_path, caplog):
    frame = table(60).with_columns(word=polars.Series(["p", "q"] * 15 + ["r", "s", "p"] * 10))
    tables = TabularData(frame, target="y", features=["x0", "word"], batch_size=7)
    folds = [(range(30), range(30, 60)), (range(30, 60), range(30)), (range(30, 60), [])]
    configs = seeds("adam", model=MLP)
    with noted(caplog):
        results = fit_many(configs, tables, folds, {"accelerator": "cpu", "max_epochs": 2, "precision": "64-true"})
    assert "training 6 models in 3 programs" in caplog.text
    assert "val/loss" not in results[2].metrics
    settings = {"max_epochs": 2, "precision": "64-true"}
    for f, fold in enumerate(folds[:2]):
        assert_equal(results[f], *single(tmp_path, configs[0], tables.fold(*fold), **settings), 1e-9)


PLUGIN = """
import torch
from torch import nn
from torchplug import Loss, Regularizer

class Residual(nn.Module):
    def __init__(self, inputs, outputs, width: int = 4):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(inputs, width), nn.LayerNorm(width), nn.Linear(width, outputs)
        self.skip = nn.Linear(inputs, outputs)
    def forward(self, x):
        return self.last(torch.tanh(self.norm(self.first(x)))) + self.skip(x)

class Cauchy(Loss):
    kind = "regression"
    hyper = ("scale",)
    def __init__(self, scale: float = 1.0):
        super().__init__()
        self.scale = scale
    def forward(self, scores, target):
        return torch.log1p(((scores - target) / self.scale).square()).sum(1)

class Groups(Regularizer):
    hyper = ("coefficient",)
    def __init__(self, coefficient: float = 0.1):
        super().__init__()
        self.coefficient = coefficient
    def forward(self, parameters):
        return torch.stack([(p.square().sum(0) + 1e-6).sqrt().sum() for p in parameters.values()]).sum()

def adagrad(params, lr: float = 0.01):
    return torch.optim.Adagrad(params, lr=lr)
"""


@pytest.mark.parametrize("model", ["residual", "linear"])
def test_a_plugins_components_need_declare_nothing(tmp_path, distributions, model):
    distributions.module("own", PLUGIN)
    distributions.offer(
        "own-things",
        ("models", "residual", "own:Residual"),
        ("losses", "cauchy", "own:Cauchy"),
        ("regularizers", "groups", "own:Groups"),
        ("optimizers", "adagrad", "own:adagrad"),
    )
    configs = [
        {
            "model": model,
            "loss": use("cauchy", scale=scale),
            "optimizer": use("adagrad", lr=lr),
            "regularizers": [use("groups", coefficient=coefficient)],
        }
        for scale, lr, coefficient in ((1.0, 0.01, 0.1), (1.0, 0.1, 0.01), (2.0, 0.1, 0.1))
    ]
    settings = {"max_epochs": 2, "precision": "64-true"}
    results = fit_many(configs, data(), FOLDS[:2], {"accelerator": "cpu", **settings})
    for c, config in enumerate(configs):
        for f in range(2):
            fitted = single(tmp_path, config, data().fold(*FOLDS[f]), **settings)
            assert_equal(results[2 * c + f], *fitted, 1e-9)


def test_a_checkpoint_of_one_model_loads_as_an_ordinary_module(tmp_path):
    configs = grid(model=use("mlp", hidden=[5], batch_norm=True), loss="bce")
    result = fit_many(configs, data("two", batch_size=25), trainer={"accelerator": "cpu", "max_epochs": 2})[3]
    result.save_checkpoint(tmp_path / "one.ckpt")
    loaded = ComponentModule.load_from_checkpoint(tmp_path / "one.ckpt", weights_only=True)
    frame = _frame()
    assert loaded.predict(frame).equals(result.module.predict(frame))
    assert loaded.resolved.plain() == ComponentModule(**configs[3]).resolved.plain()


def _frame():
    return data().sources["source"].head(20)


def test_the_users_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    results = fit_many(DROPPED, data(), trainer={"accelerator": "cpu", "max_epochs": 1})
    assert results[0].module is results[0].module
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_is_shown_on_a_terminal_and_can_be_switched_off(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes the stream for a terminal
    configs, settings = seeds("sgd", model=LINEAR), {"accelerator": "cpu", "max_epochs": 1}
    fit_many(configs, data(), trainer=settings)
    shown = capsys.readouterr().err
    assert "2 models" in shown
    assert "100%" in shown
    fit_many(configs, data(), trainer={**settings, "enable_progress_bar": False})
    assert "models" not in capsys.readouterr().err


@pytest.mark.parametrize("model", [LINEAR, torch.nn.Linear(3, 1)], ids=["together", "alone"])
def test_an_interruption_ends_training_at_a_step_and_gives_what_is_done(model):
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()
    configs = [{"model": model, "optimizer": use("sgd", lr=0.001)}] * 2 + [{"model": MLP}]
    results = fit_many(configs, data(), trainer={"accelerator": "cpu", "max_epochs": 10**6})
    first = results[0 if model is LINEAR else 2]
    assert first.outcome.reason.startswith("interrupted after")
    assert {"train/epoch_loss", "val/loss"} <= set(first.metrics)
    assert any(bool(p.any()) for p in first.module.network.parameters())
    last = results[2 if model is LINEAR else 1]
    assert last.outcome.reason == "interrupted before its first step"
    assert last.metrics == {}
    with pytest.raises(KeyboardInterrupt):  # the handlers are those that were there before
        signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("configs", "folds", "message"),
    [
        ([], None, "there is no configuration to fit"),
        ([{"model": LINEAR}], [], "there is no fold"),
        ([LINEAR], None, "a configuration is a mapping"),
        ([{"model": LINEAR, "lr": 0.1}], None, "a configuration has no 'lr': it takes model, loss"),
        ([{"model": LINEAR, "seed": -1}], None, "seed is a whole number"),
        ([{"model": LINEAR}, {"model": LINEAR, "optimizer": use("sgd", lr=-1.0)}], None, "lr must be positive"),
        ([{"model": LINEAR}, {"model": LINEAR, "optimizer": "sdg"}], None, "did you mean sgd"),
        ([{"model": LINEAR, "scheduler": use("step", every=n)} for n in (1, 0)], None, "every must be at least 1"),
        ([{"model": LINEAR, "reduction": "none"}], None, "reduction is 'mean' or 'sum'"),
        ([{"model": LINEAR, "loss": "bce"}], None, "needs class labels"),
        ([{"model": LINEAR, "regularizers": [use("l2", include=["nothing*"])]}], None, "matches no parameter"),
        ([{"model": LINEAR, "regularizers": LASSO + NET}], None, "two proximal regularizers act on"),
        ([{"model": LINEAR}], [([0, 1, 1], [2])], "training rows have 1 twice"),
        ([{"model": LINEAR}], [([0, 1], [1])], "trains on row 1 and validates on it"),
        ([{"model": LINEAR}], [([0, 1, 250], [2])], "has rows 0 to 249, and a fold has row 250"),
        ([{"model": LINEAR}], [([0.5], [1])], "whole numbers"),
        ([{"model": LINEAR}], [([], [1])], "no row to train on"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is(configs, folds, message):
    with pytest.raises((ConfigurationError, DataError), match=message):
        fit_many(configs, data(), folds, {"accelerator": "cpu", "max_epochs": 1})


def test_what_the_trainer_refuses_is_refused():
    with pytest.raises(ConfigurationError, match=r"trainer: .*max_epoch"):
        fit_many([{"model": LINEAR}], data(), trainer={"max_epoch": 3})


def test_rows_without_target_take_no_part_in_a_fold():
    frame = _frame().with_columns(y=torch.arange(20.0).numpy())
    frame[3, "y"] = None
    tables = TabularData(frame, target="y", features=["x0"]).fold(range(10), range(10, 14))
    fit_many([{"model": LINEAR}], TabularData(frame, target="y"), [(range(10), range(10, 14))], {"max_epochs": 1})
    tables.prepare(ComponentModule(LINEAR).data_request())
    assert tables.sizes == {"train": 9, "validation": 4, "test": 0}
    assert tables.frame_of("train")["y"].to_list() == [0, 1, 2, 4, 5, 6, 7, 8, 9]
