"""How a fit with several steps per call ends: with an error, by hand, or well; and what is left of it."""

import copy
import pickle

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from compared_fits import DROPPED, MLP, NORMALIZED, Fit, differences, made, rows, table
from small_fits import trainer
from torchplug import ComponentModule, Loss, use
from torchplug.errors import NonFiniteGradientError
from torchplug.training import Execution

ENGINES = pytest.mark.parametrize("engine", ["auto", "autograd"])


# ---------------------------------------------------------------------- gradients that are not finite


DIVERGING = {
    "at-once": {"optimizer": use("sgd", lr=1e30)},
    "slowly": {"model": "linear", "optimizer": use("sgd", lr=3.0), "max_epochs": 40},
    "in-a-later-epoch": {"model": "linear", "optimizer": use("momentum", lr=0.5), "max_epochs": 40},
    "nesterov": {"model": "linear", "optimizer": use("nesterov", lr=0.5), "max_epochs": 40},
    "relu": {"model": use("mlp", hidden=[8, 8]), "optimizer": use("sgd", lr=5.0), "max_epochs": 20},
    "by-the-update": {"model": "linear", "optimizer": use("sgd", lr=1e38), "gradient_clip_val": 1e3},
    "clipped-by-value": {
        "model": "linear",
        "optimizer": use("sgd", lr=1e25),
        "gradient_clip_val": 1e15,
        "gradient_clip_algorithm": "value",
        "max_epochs": 20,
    },
    "bf16": {"model": "linear", "optimizer": use("sgd", lr=1e20), "precision": "bf16-mixed"},
    "double": {"model": "linear", "optimizer": use("sgd", lr=1e100), "precision": "64-true"},
    "penalized": {"optimizer": use("sgd", lr=10.0), "regularizers": [use("l2", coefficient=1e4)]},
    "seldom-logged": {"model": "linear", "optimizer": use("sgd", lr=3.0), "max_epochs": 40, "log_every_n_steps": 50},
    "normalized": {"model": NORMALIZED, "optimizer": use("sgd", lr=1e30)},
}


@ENGINES
@pytest.mark.parametrize("name", DIVERGING)
def test_divergence_is_told_alike(tmp_path, name, engine):
    """The same message, and nothing applied from the same step on."""
    seen = []
    for steps in (1, 7, 64):
        fit = Fit(made(tmp_path / str(steps)), steps, engine, **DIVERGING[name])
        with pytest.raises(NonFiniteGradientError) as told:
            fit()
        assert all(torch.isfinite(value).all() for value in fit.parameters.values())
        seen.append([str(told.value), fit.parameters, fit.run.current_epoch, fit.recorder.rows])
    single, *others = seen
    for other in others:
        assert differences(single, other) == []


@pytest.mark.parametrize("name", ["at-once", "slowly", "by-the-update"])
def test_the_step_that_diverged_is_counted_alike(tmp_path, name):
    counts = set()
    for steps in (1, 7, 64):
        fit = Fit(made(tmp_path / str(steps)), steps, **DIVERGING[name])
        with pytest.raises(NonFiniteGradientError):
            fit()
        counts.add(fit.run.global_step)
    assert len(counts) == 1


# ---------------------------------------------------------------------- what breaks a fit off


class Failing(Loss):
    """A squared error that raises at its n-th batch."""

    kind = "regression"
    calls = 0
    error: type[BaseException] = RuntimeError
    at = 12

    def forward(self, scores, target):
        if scores.requires_grad and len(scores) > 3:  # no trial of the loss, which has few rows
            type(self).calls += 1
            if self.calls == self.at:
                raise self.error("at that batch")
        return (scores - target).square().sum(1)


@pytest.fixture
def failing(distributions, monkeypatch):
    """A loss that raises."""
    distributions.offer("failing", ("losses", "failing", f"{__name__}:Failing"))
    return lambda error: (monkeypatch.setattr(Failing, "error", error), monkeypatch.setattr(Failing, "calls", 0))


@pytest.mark.parametrize("steps", [1, 7, 64])
@pytest.mark.parametrize(("error", "raised"), [(RuntimeError, RuntimeError), (KeyboardInterrupt, SystemExit)])
def test_what_is_raised_in_a_step_leaves_the_steps_before_it_counted(tmp_path, failing, steps, error, raised):
    """Also by Ctrl-C; what is saved then is what was trained."""

    def saving(folder):
        return [ModelCheckpoint(folder, filename="{step}", save_on_exception=True)]

    short = Fit(made(tmp_path / "short"), 1, "autograd", loss="mse", max_steps=11, max_epochs=None)()
    failing(error)
    fit = Fit(made(tmp_path / "fit"), steps, "autograd", loss="failing", callbacks=saving)
    with pytest.raises(raised):
        fit()
    assert fit.run.global_step == 11
    assert fit.run.fit_loop.epoch_loop.batch_progress.current.processed == 11
    assert differences(short.parameters, fit.parameters) == []
    (path,) = (tmp_path / "fit").glob("*.ckpt")
    saved = torch.load(path, weights_only=True)
    assert saved["global_step"] == 11
    expected = short.everything()["checkpoint"]["optimizer_states"]
    assert differences(expected, saved["optimizer_states"]) == []
    # and it is gone on with from there
    whole = Fit(made(tmp_path / "whole"), 1, "autograd", loss="failing", callbacks=saving)()
    resumed = Fit(made(tmp_path / "more"), 7, "autograd", loss="failing", callbacks=saving, resume=path)()
    assert resumed.run.global_step == 44
    assert differences(whole.parameters, resumed.parameters) == []


@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("optimizer", ["adam", use("nesterov", lr=0.02)])
def test_a_module_that_was_broken_off_trains_again(tmp_path, failing, steps, optimizer):
    failing(RuntimeError)
    fit = Fit(made(tmp_path / "fit"), steps, "auto", loss="failing", optimizer=optimizer)
    with pytest.raises(RuntimeError, match="at that batch"):
        fit()
    again = copy.deepcopy(fit.module)
    assert again.predict(table()).equals(fit.module.predict(table()))
    for module in (fit.module, again):
        trainer(made(tmp_path / f"again{module is again}")).fit(module, rows())
        assert all(p.untyped_storage().nbytes() == p.nbytes for p in module.parameters())


# ---------------------------------------------------------------------- afterwards


MODELS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "linear", "optimizer": "nesterov"},
        {"optimizer": "adamw"},
        {"model": DROPPED},
        {"regularizers": [use("l1", proximal=True)]},
        {"precision": "bf16-mixed"},
    ],
    ids=["mlp", "nesterov", "adamw", "dropout", "proximal", "bf16"],
)


@MODELS
@ENGINES
def test_parameters_have_memory_of_their_own_afterwards(tmp_path, options, engine):
    fit = Fit(tmp_path, 7, engine, **options)()
    parameters = list(fit.module.network.parameters())
    assert len({p.untyped_storage().data_ptr() for p in parameters}) == len(parameters)
    for p in parameters:
        assert p.untyped_storage().nbytes() == p.nbytes
        assert p.is_contiguous()
        assert p.requires_grad
        assert p.is_leaf
        assert p.grad is None
    (optimizer,) = fit.run.optimizers
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in parameters}
    assert all(id(key) in {id(p) for p in parameters} for key in optimizer.state)
    states = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in states)


@MODELS
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_predicts_and_trains_on(tmp_path, options, copied):
    fit = Fit(made(tmp_path / "fit"), 7, **options)()
    del fit.module.execution.training_step  # by which the calls were counted
    again = copied(fit.module)
    assert again.predict(table()).equals(fit.module.predict(table()))
    assert differences(again.network.state_dict(), fit.module.network.state_dict()) == []
    assert again.options == again.execution.options == Execution(steps_per_execution=7)
    precision = options.get("precision", "32-true")
    trained = []
    for number, module in enumerate((fit.module, again)):
        torch.manual_seed(1)
        trainer(made(tmp_path / str(number)), precision=precision).fit(module, rows())
        trained.append(module.network.state_dict())
    assert differences(*trained) == []
    assert differences(trained[0], fit.snapshots.taken[0]) != []


@MODELS
def test_a_module_is_fitted_twice_alike(tmp_path, options):
    results = []
    for steps in (1, 7):
        module = Fit(made(tmp_path / f"{steps}"), steps, **options)().module
        second = Fit(made(tmp_path / f"{steps}-second"), steps, module=module, **options)()
        results.append(second.everything())
    assert differences(*results) == []


def test_a_trainer_is_fitted_twice_alike(tmp_path):
    """Its second fit goes on where the first one stopped."""
    results = []
    for steps in (1, 7):
        fit = Fit(made(tmp_path / str(steps)), steps)()
        fit.run.fit_loop.max_epochs = 4
        fit()
        assert fit.run.global_step == 88
        results.append(fit.everything())
    assert differences(*results) == []


def test_evaluation_and_prediction_afterwards_are_the_same(tmp_path):
    results = []
    for steps in (1, 7):
        fit = Fit(made(tmp_path / str(steps)), steps, optimizer=use("nesterov", lr=0.02))()
        (validated,) = fit.run.validate(fit.module, fit.data, verbose=False)
        (tested,) = fit.run.test(fit.module, fit.data, verbose=False)
        predicted = torch.cat(fit.run.predict(fit.module, fit.data))
        fit.module(torch.zeros(1, 3)).sum().backward()  # parameters are ordinary ones
        results.append([validated, tested, predicted, [p.grad for p in fit.module.parameters()]])
    assert differences(*results) == []


@ENGINES
def test_a_checkpoint_predicts_alone(tmp_path, engine):
    fit = Fit(tmp_path, 7, engine, optimizer="adamw")()
    fit.run.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for value in saved["state_dict"].values():
        assert value.untyped_storage().nbytes() == value.nbytes
    module = ComponentModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert module.predict(table()).equals(fit.module.predict(table()))


def test_a_saved_optimizer_shares_no_memory_with_the_one_that_trains(tmp_path):
    """What a callback keeps of it stays as it was."""
    fit = Fit(tmp_path, 7, optimizer="adamw", max_epochs=1)
    kept = []
    fit.snapshots.on_validation_end = lambda run, module: kept.append(run.optimizers[0].state_dict())
    fit.run.val_check_interval = 11
    fit()
    assert all(v.untyped_storage().nbytes() == v.nbytes for s in kept[0]["state"].values() for v in s.values())
    steps = [[float(s["step"]) for s in state["state"].values()] for state in kept[:2]]
    assert steps == [[11.0] * 4, [22.0] * 4]


def test_a_network_of_ones_own_keeps_its_parameters(tmp_path):
    """The very objects: who holds one sees it trained."""
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    held = list(network.parameters())
    before = [p.detach().clone() for p in held]
    fit = Fit(tmp_path, 7, model=lambda: network)()
    assert all(a is b for a, b in zip(held, fit.module.network.parameters(), strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(held, before, strict=True))


def test_how_a_model_is_trained_is_saved_with_it(tmp_path):
    settings = {"engine": "autograd", "steps_per_execution": 7, "sync_every": 8}
    Fit(tmp_path, module=ComponentModule(MLP, **settings))().run.save_checkpoint(tmp_path / "whole.ckpt")
    loaded = ComponentModule.load_from_checkpoint(tmp_path / "whole.ckpt", weights_only=True)
    assert {name: loaded.hparams[name] for name in settings} == settings
