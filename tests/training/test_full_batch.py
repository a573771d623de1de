"""Training on the whole set through Lightning, with a small optimizer that asks the objective."""

import copy
import pickle

import numpy as np
import polars
import pytest
import torch
from lightning.pytorch.callbacks import (
    Callback,
    GradientAccumulationScheduler,
    LearningRateMonitor,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers.logger import Logger
from torch import nn

from small_fits import regression, trainer
from torchplug import ComponentModule, TabularData, use
from torchplug.errors import ConfigurationError
from torchplug.training import FullBatch

PLUGIN = """
import torch
from torchplug import Component, Iteration, Capability, Outcome, hookimpl


class Descent(torch.optim.Optimizer):
    '''Gradient descent whose step is halved until F falls.'''

    def __init__(self, params, tolerance: float = 1e-8, limit: int = 10**6, too_small: int = 0):
        super().__init__(params, {})
        self.tolerance, self.limit, self.too_small = tolerance, limit, too_small

    @property
    def memory(self):
        return self.state[self.param_groups[0]["params"][0]]

    @property
    def outcome(self):
        kept = self.state.get("outcome")
        return None if kept is None else Outcome(*kept)

    @property
    def iteration(self):
        kept = self.memory.get("iteration")
        return None if kept is None else Iteration(*kept)

    def refuse(self, objective):
        if objective.size < self.too_small:
            raise ValueError("is too small")

    def step(self, *, objective):
        if self.outcome is not None:
            raise AssertionError("a finished optimizer was asked for a step")
        value, gradient = objective.evaluate()
        start, step = objective.point, 1.0
        objective.move(start - step * gradient)
        while objective.value() > value - 1e-4 * step * float(gradient @ gradient):
            step /= 2
            objective.move(start - step * gradient)
        number = 1 + (self.iteration.number if self.iteration else 0)
        norm = float(objective.gradient().norm())
        self.memory["iteration"] = (number, objective.value(), norm, step, None, objective.evaluations)
        if norm <= self.tolerance:
            self.state["outcome"] = ("converged", "the gradient is small", "")
        elif number == self.limit:
            self.state["outcome"] = ("stalled", "that will do", "try more")


@hookimpl
def torchplug_optimizers():
    here = "descent_plugin:Descent"
    whole = frozenset({Capability.OBJECTIVE})
    return [
        Component("descent", here, "halving descent", whole),
        Component("squares", here, "the same for sums of squares", whole | {Capability.RESIDUALS}),
        Component("straight", here, "for linear models", whole | {Capability.RESIDUALS, Capability.LINEAR_RESIDUALS}),
    ]
"""


@pytest.fixture(autouse=True)
def plugin(distributions):
    distributions.add("descent", PLUGIN)


def fitted(tmp_path, module=None, data=None, **settings):
    module = module or ComponentModule(use("linear"), "mse", "descent")
    run = trainer(tmp_path, **{"max_epochs": 500, **settings})
    run.fit(module, data or regression())
    return module, run


def least_squares(data):
    data.prepare(ComponentModule(use("linear"), "mse", "descent").data_request())
    part = data.frame_of("train")
    X = np.column_stack([part.drop("y").to_numpy(), np.ones(part.height)])
    return np.linalg.lstsq(X, part["y"].to_numpy(), rcond=None)[0]


def test_it_trains_to_the_minimum_and_stops(tmp_path):
    module, run = fitted(tmp_path)
    assert module.outcome.name == "converged"
    assert run.current_epoch < 500
    assert run.global_step == module.iteration.number == run.current_epoch
    found = {feature: value for _, feature, value in module.coefficients()}
    expected = least_squares(regression())
    np.testing.assert_allclose([found[c] for c in ("a", "b", "c", "(intercept)")], expected, rtol=1e-6)


def test_it_works_in_double_precision(tmp_path):
    module, _ = fitted(tmp_path, max_epochs=1)
    assert {p.dtype for p in module.network.parameters()} == {torch.float64}
    rows = regression()
    rows.prepare(module.data_request())
    assert module.predict(rows.frame_of("test")).height == rows.sizes["test"]


class OwnLoader:
    def __init__(self, training_set):
        self.training_set = training_set

    def __len__(self):
        return 1

    def __iter__(self):
        yield self.training_set


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`", "ignore:The 'train_dataloader' does not")
def test_a_loader_of_ones_own_feeds_a_network_of_ones_own(tmp_path):
    data = regression()
    data.prepare(ComponentModule(use("linear"), "mse", "descent").data_request())
    torch.manual_seed(0)  # from some starts the descent takes more than its 500 epochs
    module = ComponentModule(nn.Linear(3, 1), "mse", "descent")
    fitted(tmp_path, module, OwnLoader(data.training_set))
    assert module.outcome.name == "converged"
    assert module.network.weight.dtype == torch.float64


def test_a_limit_is_an_outcome_too(tmp_path):
    module, _ = fitted(tmp_path, max_epochs=2)
    assert module.outcome.name == "limit"
    assert "2 epochs" in module.outcome.reason
    assert module.outcome.remedy


class Stop(Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"callbacks": [Stop()]}, "stopped after 3 epochs"),
        ({"max_epochs": -1, "max_steps": 4}, "4 steps are done"),
        ({"max_epochs": -1, "callbacks": [Stop()]}, "stopped after 3 epochs"),
    ],
)
def test_a_limit_is_named(tmp_path, settings, words):
    module, _ = fitted(tmp_path, **settings)
    assert module.outcome.name == "limit"
    assert words in module.outcome.reason


class Interrupted(torch.optim.SGD):
    def step(self, *, objective):
        objective.move(objective.point + 1000.0)
        raise KeyboardInterrupt


def test_an_interrupted_step_leaves_no_trial_behind(tmp_path, monkeypatch):
    module = ComponentModule(use("linear"), "mse", "descent")
    monkeypatch.setattr(
        type(module.resolved), "build_optimizer", lambda *_, **__: Interrupted(module.network.parameters())
    )
    with pytest.raises(SystemExit):
        fitted(tmp_path, module)
    assert float(module.network.map.weight.detach().abs().max()) < 1.0


def test_minibatch_training_has_no_outcome(tmp_path):
    module, _ = fitted(tmp_path, ComponentModule(use("linear"), "mse", "sgd"), max_epochs=1)
    assert module.outcome is None
    assert module.iteration is None


class Rows(Logger):
    name, version = "rows", 0

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_hyperparams(self, *arguments):
        pass

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, metrics))


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_every_iteration_is_a_row_whatever_the_logging_interval(tmp_path):
    rows = Rows()
    module, run = fitted(tmp_path, max_epochs=7, logger=rows, log_every_n_steps=1000)
    written = [(step, row) for step, row in rows.rows if "train/objective" in row]
    assert [step for step, _ in written] == list(range(7))
    assert [step for step, row in rows.rows if "val/loss" in row] == list(range(7))
    last = written[-1][1]
    assert last["train/objective"] == module.iteration.loss
    assert last["train/gradient_norm"] == module.iteration.gradient_norm
    assert last["train/step_size"] == module.iteration.step
    assert "train/damping" not in last
    assert last["train/evaluations"] == module.iteration.evaluations
    assert float(run.callback_metrics["train/epoch_loss"]) == pytest.approx(module.iteration.loss, rel=1e-12)


def test_the_penalty_is_no_part_of_the_epochs_loss(tmp_path):
    module = ComponentModule(use("linear"), "mse", "descent", [use("l2", coefficient=0.5)])
    module, run = fitted(tmp_path, module, max_epochs=3)
    weight = module.network.map.weight.detach()
    loss = module.iteration.loss - 0.5 * float(weight.square().sum())
    assert float(run.callback_metrics["train/epoch_loss"]) == pytest.approx(loss, rel=1e-12)


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_resuming_goes_on_and_a_finished_run_takes_no_further_step(tmp_path):
    keep = ModelCheckpoint(tmp_path, "kept", save_on_train_epoch_end=True, enable_version_counter=False)
    whole, _ = fitted(tmp_path)
    fitted(tmp_path, max_epochs=5, callbacks=[keep], enable_checkpointing=True)
    again = ComponentModule(use("linear"), "mse", "descent")
    run = trainer(tmp_path, max_epochs=500, callbacks=[keep], enable_checkpointing=True)
    run.fit(again, regression(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert again.iteration.number == whole.iteration.number
    assert torch.equal(again.network.map.weight, whole.network.map.weight)
    finished = ComponentModule(use("linear"), "mse", "descent")
    run = trainer(tmp_path, max_epochs=900, callbacks=[keep], enable_checkpointing=True)
    run.fit(finished, regression(), ckpt_path=tmp_path / "kept.ckpt", weights_only=True)
    assert finished.iteration == again.iteration
    assert finished.outcome == again.outcome
    assert torch.equal(finished.network.map.weight, whole.network.map.weight)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"accumulate_grad_batches": 2}, "leave accumulate_grad_batches at 1"),
        (
            {"callbacks": [GradientAccumulationScheduler({1: 2})]},
            "the callback GradientAccumulationScheduler out",
        ),
        ({"gradient_clip_val": 1.0}, "leave gradient_clip_val unset"),
        ({"precision": "bf16-true"}, "precision bf16-true would lose the digits"),
        ({"precision": "16-true"}, "precision 16-true would lose the digits"),
        ({"limit_train_batches": 0.5}, "leave limit_train_batches and overfit_batches out"),
        ({"callbacks": [StochasticWeightAveraging(0.1)]}, "no learning rate: leave the callback StochasticWeight"),
        ({"callbacks": [LearningRateMonitor()], "logger": Rows()}, "no learning rate: leave the callback LearningRate"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_trainer_settings_that_would_train_wrongly_are_refused(tmp_path, settings, words):
    with pytest.raises(ConfigurationError, match=words):
        fitted(tmp_path, **settings)


def test_batch_norm_in_training_mode_is_refused(tmp_path):
    module = ComponentModule(use("mlp", hidden=[4], batch_norm=True), "mse", "descent")
    with pytest.raises(ConfigurationError, match="batch_norm: false"):
        fitted(tmp_path, module)


def test_losses_without_residuals_are_refused_at_construction():
    with pytest.raises(ConfigurationError, match=r"squares needs a loss that is a sum of squared residuals, and l1 is"):
        ComponentModule(use("linear"), "l1", "squares")


def test_losses_with_kinks_are_refused_at_construction():
    with pytest.raises(ConfigurationError, match=r"needs a loss without kinks, and l1 has them: .*interior_point"):
        ComponentModule(use("linear"), "l1", "descent")


def test_nonlinear_models_are_refused_before_the_first_step(tmp_path):
    with pytest.raises(ConfigurationError, match="linear in its parameters"):
        fitted(tmp_path, ComponentModule(use("mlp", hidden=[4]), "mse", "straight"))
    module, _ = fitted(tmp_path, ComponentModule(use("linear"), "mse", "straight"), max_epochs=1)
    assert module.iteration is not None


def test_penalties_without_curvature_are_refused_at_construction():
    for penalty in (use("l1"), use("elastic_net")):
        with pytest.raises(ConfigurationError, match=r"proximal_newton with \w+ and proximal: true"):
            ComponentModule(use("linear"), "mse", "descent", [penalty])
    with pytest.raises(ConfigurationError, match="applies the prox"):
        ComponentModule(use("linear"), "mse", "descent", [use("l1", proximal=True)])


def test_what_the_optimizer_refuses_is_said_in_its_name(tmp_path):
    with pytest.raises(ConfigurationError, match="descent: is too small"):
        fitted(tmp_path, ComponentModule(use("linear"), "mse", use("descent", too_small=100)))


@pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning")
def test_a_loader_of_batches_is_refused(tmp_path):
    pairs = torch.utils.data.TensorDataset(torch.randn(8, 3), torch.randn(8, 1))
    module = ComponentModule(nn.Linear(3, 1), "mse", "descent")
    with pytest.raises(ConfigurationError, match="DataLoader, which gives batches"):
        trainer(tmp_path).fit(module, torch.utils.data.DataLoader(pairs, batch_size=4, shuffle=True))


def test_schedulers_are_left_out_with_a_note():
    module = ComponentModule(use("mlp", dropout=0.2), "mse", "descent", scheduler="cosine")
    module.configure(prepared(module))
    scheduler, dropout = module.resolved.notes(module.network)
    assert scheduler == "descent finds its own step sizes, so the scheduler cosine is left out"
    assert dropout == "descent minimizes a fixed function, so dropout is off"


def prepared(module):
    data = regression()
    data.prepare(module.data_request())
    return data


def test_frozen_layers_are_taken_up_at_the_next_epoch(tmp_path):
    from lightning.pytorch.callbacks import Callback

    class Freeze(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 2:
                self.kept = pl_module.network.map.bias.detach().clone()
                pl_module.network.map.bias.requires_grad_(False)

    freeze = Freeze()
    module, _ = fitted(tmp_path, max_epochs=6, callbacks=[freeze])
    assert torch.equal(module.network.map.bias, freeze.kept)
    assert module.iteration.number == 6


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda strategy: pickle.loads(pickle.dumps(strategy))])
def test_a_copy_starts_idle(tmp_path, copied):
    module, _ = fitted(tmp_path, max_epochs=2)
    again = copied(module)
    assert isinstance(again.execution, FullBatch)
    assert module.iteration is not None
    assert again.iteration is None
    assert again.outcome is None


class Backward(Callback):
    called = False

    def on_after_backward(self, trainer, pl_module):
        self.called = True


def test_a_step_makes_no_backward_pass(tmp_path):
    backward = Backward()
    module, run = fitted(tmp_path, max_epochs=3, callbacks=[backward])
    assert run.global_step == module.iteration.number == 3
    assert not backward.called
    assert all(p.grad is None for p in module.network.parameters())


def test_infinite_values_do_not_reach_the_optimizer(tmp_path):
    frame = polars.DataFrame({"x": [1.0, float("inf"), 3.0, 4.0], "y": [1.0, 2.0, 3.0, 4.0]})
    from torchplug.errors import DataError

    with pytest.raises(DataError, match="row 2"):
        fitted(tmp_path, data=TabularData(frame, target="y", split=[1.0]))
