"""Minibatches: which point the parameters hold between steps, and what rows say of the loss."""

import numpy as np
import polars
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn
from torch.utils.data import DataLoader

from compared_fits import Recorder
from small_fits import trainer
from torchplug import ComponentModule, TabularData, use
from torchplug.errors import NonFiniteGradientError

Y = np.array([1.0, 2.0, -1.0, 5.0, 4.0])
W = np.array([0.5, 1.5, 1.0, 1.0, 1.0])
UNMOVED = use("sgd", lr=1e-30)
"""Parameters start at zero, so that the losses of every step are those of a prediction of zero."""


class Points(Callback):
    """The parameter as the forward pass of each batch takes it, and as a callback finds it after that."""

    def __init__(self):
        self.forward, self.afterwards = [], []

    def on_train_start(self, run, module):
        network = module.network
        network.register_forward_pre_hook(lambda *_: self.forward.append(network.weight.item()))

    def on_train_batch_end(self, run, module, *_):
        self.afterwards.append(module.network.weight.item())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_forward_pass_looks_ahead_and_callbacks_do_not(tmp_path, accumulated):
    """By Nesterov's method on (θx − y)², written out; after each update callbacks find θ."""
    alpha, beta = 0.05, 0.8
    x, y = torch.tensor([[[1.0], [2.0]], [[3.0], [1.0]]], dtype=torch.float64)
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    points = Points()
    module = ComponentModule(network, "mse", use("nesterov", lr=alpha, beta=beta))
    run = trainer(tmp_path, callbacks=[points], accumulate_grad_batches=accumulated, precision="64-true")
    run.fit(module, DataLoader([(x, y)] * 4, batch_size=None))
    theta, velocity, ahead, after = 0.0, 0.0, [], []
    for _ in range(8 // accumulated):
        point = theta + beta * velocity
        ahead += [point] * accumulated
        gradient = float((2 * (x * point - y) * x).mean())
        velocity = beta * velocity - alpha * gradient
        theta += velocity
        after.append(theta)
    np.testing.assert_allclose(points.forward, ahead, rtol=1e-10)
    np.testing.assert_allclose(points.afterwards[accumulated - 1 :: accumulated], after, rtol=1e-10)


def rows_of(tmp_path, name, module, **settings):
    """The values that are logged under a name, of a fit in batches of 3 and 2 weighted rows."""
    recorder = Recorder()
    table = polars.DataFrame({"x": np.arange(5.0), "y": Y, "w": W})
    data = TabularData(table, target="y", weights="w", split=[1.0], batch_size=3, shuffle=False)
    trainer(tmp_path, logger=recorder, max_epochs=3, **settings).fit(module, data)
    return [row[name] for _, row in recorder.rows if name in row]


@pytest.mark.parametrize("steps_per_execution", [1, "auto"])
def test_rows_are_weighted_means_since_the_last_one(tmp_path, steps_per_execution):
    losses = W * Y**2
    for every, expected in (
        (3, [(losses.sum() + losses[:3].sum()) / 8, (losses[3:].sum() + losses.sum()) / 7]),  # across epochs
        (2, [losses.mean()] * 3),
        (1, [losses[:3].mean(), losses[3:].mean()] * 3),
    ):
        module = ComponentModule("linear", "mse", UNMOVED, steps_per_execution=steps_per_execution)
        found = rows_of(tmp_path, "train/loss", module, log_every_n_steps=every)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_epochs_row_is_the_mean_of_its_rows(tmp_path):
    found = rows_of(tmp_path, "train/epoch_loss", ComponentModule("linear", "mse", UNMOVED), log_every_n_steps=3)
    np.testing.assert_allclose(found, [(W * Y**2).mean()] * 3, rtol=1e-6)


def test_a_batch_that_ends_no_window_gives_no_row(tmp_path):
    module = ComponentModule("linear", "mse", UNMOVED)
    found = rows_of(tmp_path, "train/loss", module, log_every_n_steps=1, accumulate_grad_batches=2)
    np.testing.assert_allclose(found, [(W * Y**2).mean()] * 3, rtol=1e-6)


def test_the_objective_of_a_sum_is_that_of_a_step(tmp_path):
    module = ComponentModule("linear", "mse", UNMOVED, reduction="sum")
    found = rows_of(tmp_path, "train/objective", module, log_every_n_steps=2)
    np.testing.assert_allclose(found, [(W * Y**2).sum() / 2] * 3, rtol=1e-6)


class Spoiling(Callback):
    """Freezes the bias in epoch 0, thaws it in epoch 1 or not, and spoils the features there."""

    def __init__(self, features, thaws):
        self.features, self.thaws = features, thaws

    def on_train_epoch_start(self, run, module):
        module.network.bias.requires_grad_(run.current_epoch == 1 and self.thaws)
        if run.current_epoch == 1:
            self.features.fill_(torch.nan)


@pytest.mark.parametrize(("thaws", "named"), [(False, "network.weight"), (True, "network.weight, network.bias")])
def test_layers_that_thaw_are_guarded(tmp_path, thaws, named):
    features = torch.ones(3, 2)
    module = ComponentModule(nn.Linear(2, 1), "mse", use("sgd", lr=0.1))
    run = trainer(tmp_path, callbacks=[Spoiling(features, thaws)])
    with pytest.raises(NonFiniteGradientError, match=f"the gradient of {named} is"):
        run.fit(module, DataLoader([(features, torch.ones(3, 1))], batch_size=None))
