"""The compiled gradient and compiled steps: those of autograd, whoever asks, and however many at once."""

import logging
import shutil

import pytest
import torch
from torch import nn

from compared_fits import Fit, assert_alike, differences, made, quiet, rows
from engine_steps import Told, batch, gradients, network, objective_of
from torchplug import use
from torchplug.batch import Rows
from torchplug.components.builtin.adaptive_optimizers import Adam
from torchplug.components.builtin.regularizers import L2
from torchplug.engine.compiled import Compiled
from torchplug.errors import ConfigurationError, NonFiniteGradientError

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore"),  # the compiler's own
]


class Residual(nn.Module):
    """No chain: it adds what it skipped."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(4, 4)
        self.out = nn.Linear(4, 1)

    def forward(self, features):
        return self.out(features + torch.sin(self.inside(features)))


def aligned(**settings):
    """Of 600 rows 360 train, in 22 batches of 16 and one of 8."""
    return rows(n=600, d=4, batch_size=16, **settings)


JOBS = {
    "buffers": {"model": use("mlp", hidden=[5], batch_norm=True), "optimizer": use("adam", lr=0.01)},
    "no chain": {
        "model": Residual,
        "optimizer": use("adam", lr=0.01),
        "regularizers": [use("l2", coefficient=0.1), use("l1", coefficient=0.01)],
        "precision": "64-true",
    },
    "chain": {"model": use("mlp", hidden=[5], activation="tanh"), "optimizer": use("adamw", weight_decay=0.1)},
    "weights": {
        "model": "linear",
        "loss": "bce",
        "optimizer": "momentum",
        "data": lambda: aligned(target="two", weights="w"),
    },
}


@pytest.mark.parametrize("name", JOBS)
def test_steps_are_the_same_and_those_of_autograd(name, tmp_path, caplog):
    job = {"data": aligned, "log_every_n_steps": 5, **JOBS[name]}
    with caplog.at_level(logging.INFO, "torchplug"):
        single = assert_alike(tmp_path / "compiled", "compiled", calls=(8, "auto"), **job)
    assert "compiled a step of 16 rows in" in caplog.text
    assert "compiled 5 steps of 16 rows in" in caplog.text
    assert single.module.execution.fit.stepper.engine.name == "compiled"
    with quiet():
        reference = Fit(made(tmp_path / "autograd"), 1, "autograd", **job)()
    close = 1e-11 if job.get("precision") == "64-true" else 1e-4
    assert differences(single.module.network.state_dict(), reference.module.network.state_dict(), within=close) == []


def test_steps_with_a_schedule_and_clipping_are_the_same(tmp_path):
    """They are made one by one."""
    assert_alike(
        tmp_path,
        "compiled",
        calls=("auto",),
        data=aligned,
        model="linear",
        optimizer="adam",
        scheduler="cosine",
        gradient_clip_val=0.5,
        log_every_n_steps=5,
    )


def test_a_fit_that_breaks_down_tells_of_the_same_step(tmp_path):
    told = set()
    for steps in (1, "auto"):
        fit = Fit(
            made(tmp_path / str(steps)), steps, "compiled", data=aligned, model="linear", optimizer=use("sgd", lr=1e6)
        )
        with quiet(), pytest.raises(NonFiniteGradientError) as caught:
            fit()
        assert all(torch.isfinite(p).all() for p in fit.parameters.values())
        told.add(str(caught.value))
    assert len(told) == 1


def test_a_coefficient_that_changes_is_taken_up():
    penalty = L2(0.1)
    objective = objective_of(network(), [penalty])
    engine = Compiled(objective, Told(objective.loss), None, torch.no_grad)
    b = batch()
    for coefficient in (0.1, 0.5):
        penalty.coefficient = coefficient
        engine.renew()
        with torch.no_grad():
            engine.gradient(b, 1, False)
        found = gradients(objective)
        value, _ = objective.scaled_loss(b, 1, 1)
        torch.testing.assert_close(found, list(torch.autograd.grad(value, objective.parameters())))


def test_features_may_be_any_nest_of_tensors():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.map = nn.Linear(3, 2, dtype=torch.float64)

        def forward(self, features):
            return self.map(features["a"]) + features["b"][0]

    objective = objective_of(Pair())
    engine = Compiled(objective, Told(objective.loss), None, torch.no_grad)
    plain = batch()
    b = plain._replace(features={"a": plain.features, "b": [plain.target]})
    with torch.no_grad():
        engine.gradient(b, 1, False)
    value, _ = objective.scaled_loss(b, 1, 1)
    torch.testing.assert_close(gradients(objective), list(torch.autograd.grad(value, objective.parameters())))


def test_a_network_that_counts_its_calls_is_compiled_once(caplog):
    class Counting(nn.Linear):
        calls = 0

        def forward(self, features):
            self.calls += 1
            return super().forward(features)

    objective = objective_of(Counting(3, 2, dtype=torch.float64))
    engine = Compiled(objective, Told(objective.loss), None, torch.no_grad)
    with caplog.at_level(logging.INFO, "torchplug"), torch.no_grad():
        for _ in range(3):
            engine.renew()
            engine.gradient(batch(), 1, False)
    assert caplog.text.count("compiling") == 1


def test_scores_and_targets_that_do_not_fit_are_refused():
    objective = objective_of(network(outputs=1))
    for call in ("gradient", "several"):
        engine = Compiled(objective, Told(objective.loss), None, torch.no_grad)
        steps = engine.fused_steps(Adam(objective.parameters()))
        b = batch(6, outputs=2)
        with torch.no_grad(), pytest.raises(ConfigurationError, match="do not fit Squared"):
            engine.gradient(b, 1, False) if call == "gradient" else steps.prepare(Rows(*b[:3]), 2)
