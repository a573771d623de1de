"""ComponentModule with Lightning's own loaders, callbacks, limits and precisions."""

import copy
import logging
import pickle
import warnings

import lightning.pytorch.tuner
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from compared_fits import Recorder
from small_fits import frame, regression, trainer
from torchplug import ComponentModule, TabularData, use
from torchplug.errors import ConfigurationError

SGD = use("sgd", lr=0.1)


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # a loader over tensors in memory has no use for worker processes
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning's remark where there is no validation split on purpose
        warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
        # Lightning's remarks on what two tests do on purpose: layers in evaluation mode, accumulation by a callback
        warnings.filterwarnings("ignore", message=r"Found 1 module\(s\) in eval mode")
        warnings.filterwarnings("ignore", message=r"When using `Trainer\(accumulate_grad_batches")
        # several tests train without a validation split on purpose
        warnings.filterwarnings("ignore", message="You defined a `validation_step` but have no")
        yield


def test_a_flat_target_of_any_loader_is_a_column(tmp_path):
    X = torch.randn(64, 3)
    loader = DataLoader(TensorDataset(X, X.sum(1)), batch_size=16)
    module = ComponentModule(nn.Linear(3, 1), "mse", use("sgd", lr=0.1))
    trainer(tmp_path, max_epochs=60).fit(module, loader, loader)
    torch.testing.assert_close(module.network.weight, torch.ones(1, 3), atol=1e-2, rtol=0)


def test_targets_that_would_broadcast_are_refused(tmp_path):
    loader = DataLoader(TensorDataset(torch.randn(8, 3), torch.randn(8, 2)), batch_size=4)
    module = ComponentModule(nn.Linear(3, 1), "mse", SGD)
    with pytest.raises(ConfigurationError, match=r"scores of shape \(4, 1\).*targets of shape \(4, 2\)"):
        trainer(tmp_path).fit(module, loader)


@pytest.mark.parametrize("scheduler", ["constant", "cosine", "one_cycle", use("warmup", steps=3)])
def test_a_run_bounded_by_steps_alone(tmp_path, scheduler):
    run = trainer(tmp_path, max_epochs=None, max_steps=10)
    run.fit(ComponentModule("linear", "mse", SGD, scheduler=scheduler), regression())
    assert run.global_step == 10


def test_an_endless_loader(tmp_path):
    class Rows(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(torch.ones(3), torch.ones(1))] * 20)

    module = ComponentModule(nn.Linear(3, 1), "mse", use("sgd", lr=1e-3), scheduler="exponential")
    run = trainer(tmp_path)
    run.fit(module, DataLoader(Rows(), batch_size=4))
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-3 * 0.95**2)


def test_accumulation_that_changes_over_the_epochs(tmp_path):
    callback = lightning.pytorch.callbacks.GradientAccumulationScheduler({0: 1, 2: 3})
    module = ComponentModule("linear", "mse", use("sgd", lr=0.01), [use("l2", coefficient=0.1)], "constant")
    run = trainer(tmp_path, max_epochs=4, callbacks=[callback], precision="64-true")
    run.fit(module, regression(split=[1.0], batch_size=9, shuffle=False))
    table = frame()
    X, y = table.select("a", "b", "c").to_numpy(), table["y"].to_numpy()
    X = (X - X.mean(0)) / X.std(0)
    weight, bias = np.zeros(3), 0.0
    for epoch in range(4):
        rows = 9 if epoch < 2 else 27
        for start in range(0, 60, rows):
            part = X[start : start + rows]
            error = part @ weight + bias - y[start : start + rows]
            weight = weight - 0.01 * (2 * part.T @ error / len(error) + 0.2 * weight)
            bias -= 0.01 * 2 * error.mean()
    np.testing.assert_allclose(module.network.map.weight.detach().numpy()[0], weight, rtol=1e-10)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_of_a_fitted_module_predicts_and_leaves_the_trainer_behind(tmp_path, copied):
    module, data = ComponentModule(use("mlp", hidden=[4]), "mse", SGD), regression()
    trainer(tmp_path).fit(module, data)
    again = copied(module)
    assert again.execution.fit.state() == {}
    assert again.predict(frame()).equals(module.predict(frame()))
    trainer(tmp_path).fit(again, regression())


def test_callbacks_that_copy_the_network_find_it(tmp_path):
    average = lightning.pytorch.callbacks.EMAWeightAveraging(decay=0.5)
    trainer(tmp_path, callbacks=[average]).fit(ComponentModule("linear", "mse", SGD), regression())
    assert len(list(average._average_model.parameters())) == 2


def test_layers_keep_their_modes(tmp_path):
    network = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
    network[1].eval().requires_grad_(False)
    module = ComponentModule(network, "mse", SGD)
    trainer(tmp_path).fit(module, regression())
    module.predict(frame())
    assert network.training
    assert not network[1].training


@pytest.mark.parametrize("standardize", [True, False])
def test_the_trainer_predicts_in_original_units(tmp_path, standardize):
    data, module = regression(standardize_target=standardize), ComponentModule("linear", "mse", SGD)
    run = trainer(tmp_path, max_epochs=20, precision="64-true")
    run.fit(module, data)
    got = torch.cat(run.predict(module, TabularData(frame().drop("y", "kind"), batch_size=12)))
    np.testing.assert_allclose(got[:, 0].numpy(), module.predict(frame())["y"].to_numpy(), rtol=1e-12)
    assert module.decode(got).columns == ["y"]


def test_bare_tensors_are_features_to_predict_from(tmp_path):
    module = ComponentModule(nn.Linear(3, 1), "mse")
    got = trainer(tmp_path).predict(module, DataLoader(torch.zeros(6, 3), batch_size=4))
    assert [tuple(part.shape) for part in got] == [(4, 1), (2, 1)]


def test_float64_survives_a_checkpoint_to_the_bit(tmp_path):
    run, module = trainer(tmp_path, precision="64-true"), ComponentModule("linear", "mse", use("sgd", lr=0.01))
    run.fit(module, regression())
    run.save_checkpoint(tmp_path / "double.ckpt")
    fresh = ComponentModule("linear", "mse", use("sgd", lr=0.01))
    run = trainer(tmp_path, precision="64-true")
    run.test(fresh, regression(), ckpt_path=tmp_path / "double.ckpt", weights_only=True, verbose=False)
    assert torch.equal(fresh.network.map.weight, module.network.map.weight)


class Extra(ComponentModule):
    """Logs a metric of its own beside those of each validation."""

    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.log("val/extra", float(self.current_epoch))


def test_each_validation_is_a_row_of_its_own_values(tmp_path):
    module, expected, logger = Extra("linear", "mse", use("sgd", lr=0.01)), [], Recorder()

    class Computing(Callback):
        def on_validation_epoch_start(self, run, module):
            batches = list(run.val_dataloaders)
            scores = torch.cat([module(batch.features) for batch in batches])
            target = torch.cat([batch.target for batch in batches])
            expected.append(float((scores - target).square().mean()))

    run = trainer(tmp_path, max_epochs=4, callbacks=[Computing()], logger=logger, num_sanity_val_steps=1)
    run.fit(module, regression())
    run.fit_loop.max_epochs = 6
    run.fit(module, regression())  # it finds what the first fit has logged
    rows = [row for _, row in logger.rows if "val/loss" in row]
    assert len(set(expected)) == 7
    np.testing.assert_allclose([row["val/loss"] for row in rows], [*expected[1:5], *expected[6:]], rtol=1e-6)
    assert [row["val/extra"] for row in rows] == [0, 1, 2, 3, 4, 5]


def test_callbacks_find_the_metrics_of_a_validation(tmp_path):
    found, logger = [], Recorder()

    class Reading(Callback):
        def on_validation_end(self, run, module):
            metrics = (run.callback_metrics, run.logged_metrics, run.progress_bar_metrics)
            found.append([float(each["val/loss"]) for each in metrics])
            assert {"val/rmse", "val/mae", "val/r2"} <= {*run.callback_metrics} & {*run.logged_metrics}

    module = ComponentModule("linear", "mse", use("sgd", lr=0.01))
    run = trainer(tmp_path, max_epochs=3, callbacks=[Reading()], logger=logger)
    run.fit(module, regression())
    losses = [row["val/loss"] for _, row in logger.rows if "val/loss" in row]
    assert found == [[loss] * 3 for loss in losses]
    assert len({*losses}) == 3
    (evaluated,) = trainer(tmp_path).validate(module, regression(), verbose=False)
    assert evaluated["val/loss"] == losses[-1]


def test_each_fit_verifies_that_the_hooks_take_its_validation_loaders(tmp_path):
    loader = DataLoader(TensorDataset(torch.randn(8, 3), torch.randn(8, 1)), batch_size=4)
    module, run = ComponentModule(nn.Linear(3, 1), "mse", SGD), trainer(tmp_path)
    run.fit(module, loader, loader)
    run.fit_loop.max_epochs = 4
    with pytest.raises(RuntimeError, match=r"multiple `val_dataloader`, but no `dataloader_idx`"):
        run.fit(module, loader, [loader, loader])


def test_the_learning_rate_finder_runs(tmp_path):
    tuner = lightning.pytorch.tuner.Tuner(trainer(tmp_path, max_epochs=5))
    found = tuner.lr_find(ComponentModule("linear", "mse", SGD), regression(), num_training=8, update_attr=False)
    assert len(found.results["lr"]) == 8
