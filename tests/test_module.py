"""ComponentModule: what it refuses, what it trains, what a checkpoint carries."""

import logging
import math
import warnings

import numpy as np
import polars
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from small_fits import classification, frame, regression, trainer
from torchplug import ComponentModule, TabularData, use
from torchplug.errors import (
    CheckpointError,
    ConfigurationError,
    DataError,
    NonFiniteGradientError,
    ParameterError,
    UnknownComponentError,
)
from torchplug.registry import registry

SGD = use("sgd", lr=0.1)


@pytest.fixture(autouse=True)
def quiet():
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # a loader over tensors in memory has no use for worker processes
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Lightning's remark where there is no validation split on purpose
        warnings.filterwarnings("ignore", message="Total length of `list` across ranks is zero")
        yield


class TestConstruction:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"optimizer": "adamm"}, UnknownComponentError, "adam"),
            ({"loss": use("mse", delta=1)}, ParameterError, "delta"),
            ({"optimizer": use("sgd", lr="fast")}, ParameterError, "lr"),
            ({"optimizer": use("sgd", lr=-1.0)}, ParameterError, "lr"),
            ({"model": use("mlp", hidden=[0])}, ParameterError, "hidden"),
            ({"regularizers": [use("l2", coefficient=-1.0)]}, ParameterError, "coefficient"),
            ({"scheduler": use("exponential", decay=-2.0)}, ParameterError, "decay"),
            ({"reduction": "median"}, ConfigurationError, "'mean' or 'sum'"),
            ({"model": None}, ConfigurationError, "no model"),
        ],
    )
    def test_mistakes_surface_here(self, arguments, error, message):
        with pytest.raises(error, match=message):
            ComponentModule(**{"model": "linear", **arguments})

    def test_building_does_not_disturb_the_random_state(self):
        torch.manual_seed(5)
        expected = torch.rand(3)
        torch.manual_seed(5)
        ComponentModule("mlp")
        assert torch.equal(torch.rand(3), expected)

    def test_hyper_parameters_are_plain(self):
        module = ComponentModule(use("mlp", hidden=[4]), "mse", SGD, ["l1"], use("warmup", steps=3, after="cosine"))
        assert module.hparams["optimizer"] == {"name": "torchplug:sgd", "parameters": {"lr": 0.1}}
        assert module.hparams["regularizers"][0]["name"] == "torchplug:l1"


class TestAdopting:
    def test_sizes_come_from_the_data(self):
        module, data = ComponentModule("linear", "mse", SGD), regression()
        data.prepare(module.data_request())
        module.configure(data)
        assert module.network(torch.zeros(2, 3)).shape == (2, 1)

    @pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
    def test_a_loss_that_does_not_fit_the_target(self, loss):
        module = ComponentModule("linear", loss, SGD)
        with pytest.raises(DataError, match=loss):
            module.configure(_prepared(module, regression()))

    def test_three_classes_are_too_many_for_bce(self):
        module = ComponentModule("linear", "bce", SGD)
        with pytest.raises(DataError, match=r"bce.*two classes.*3"):
            module.configure(_prepared(module, TabularData("iris")))

    def test_an_own_network_of_the_wrong_shape(self):
        module = ComponentModule(nn.Linear(3, 2), "mse", SGD)
        with pytest.raises(ConfigurationError, match=r"shape \(n, 1\), and the network gives \(n, 2\)"):
            module.configure(_prepared(module, regression()))
        module = ComponentModule(nn.Linear(5, 1), "mse", SGD)
        with pytest.raises(ConfigurationError, match="does not take 3 features"):
            module.configure(_prepared(module, regression()))

    def test_penalty_patterns_must_match(self):
        module = ComponentModule("linear", "mse", SGD, [use("l2", include=["hidden.*"])])
        with pytest.raises(ConfigurationError, match="matches no parameter"):
            module.configure(_prepared(module, regression()))


def _prepared(module, data):
    data.prepare(module.data_request())
    return data


class TestTraining:
    def test_linear_regression_reaches_least_squares_in_original_units(self, tmp_path):
        data = regression(split=[1.0, 0.0, 0.0], batch_size="full")
        module = ComponentModule("linear", "mse", use("sgd", lr=0.4))
        trainer(tmp_path, max_epochs=300, precision="64-true").fit(module, data)
        table = frame()
        X = np.column_stack([table["a"], table["b"], table["c"], np.ones(60)])
        expected = np.linalg.lstsq(X, table["y"].to_numpy(), rcond=None)[0]
        rows = module.coefficients()
        assert [feature for _, feature, _ in rows] == ["a", "b", "c", "(intercept)"] or rows[0][1] == "(intercept)"
        got = {feature: value for _, feature, value in rows}
        np.testing.assert_allclose([got[k] for k in ("a", "b", "c", "(intercept)")], expected, rtol=1e-8)

    def test_metrics_are_logged_in_original_units(self, tmp_path):
        data, module = regression(), ComponentModule("mlp", "mse", use("adam", lr=0.01))
        run = trainer(tmp_path, max_epochs=5)
        run.fit(module, data)
        predicted = module.predict(data.frame_of("validation"))["y"].to_numpy()
        truth = data.frame_of("validation")["y"].to_numpy()
        logged = run.callback_metrics
        assert logged["val/rmse"].item() == pytest.approx(np.sqrt(np.mean((predicted - truth) ** 2)), rel=1e-5)
        assert logged["val/mae"].item() == pytest.approx(np.abs(predicted - truth).mean(), rel=1e-5)
        assert {"train/loss", "train/objective", "train/gradient_norm", "train/parameter_norm"} <= logged.keys()

    def test_the_row_of_an_interval_is_its_mean_loss(self, tmp_path):
        data = regression(split=[1.0, 0.0, 0.0], batch_size=7, shuffle=False)
        module = ComponentModule("linear", "mse", use("sgd", lr=1e-30))
        run = trainer(tmp_path, max_epochs=1, log_every_n_steps=9, precision="64-true")
        run.fit(module, data)
        y = frame()["y"].to_numpy()
        assert run.callback_metrics["train/loss"].item() == pytest.approx(np.mean(y**2), rel=1e-12)
        assert run.callback_metrics["train/epoch_loss"].item() == pytest.approx(np.mean(y**2), rel=1e-12)

    def test_classes_come_back_as_labels(self, tmp_path):
        data, module = classification(), ComponentModule("linear", "bce", use("adam", lr=0.1))
        trainer(tmp_path, max_epochs=30).fit(module, data)
        predicted = module.predict(data.frame_of("train"))
        assert set(predicted["kind"]) == {"high", "low"}
        assert (predicted["kind"] == data.frame_of("train")["kind"]).mean() > 0.9
        total = predicted["probability_high"] + predicted["probability_low"]
        np.testing.assert_allclose(total, 1.0)

    def test_any_loader_will_do(self, tmp_path):
        X = torch.randn(20, 3)
        loader = DataLoader(TensorDataset(X, X.sum(1, keepdim=True)), batch_size=6)
        module = ComponentModule(nn.Linear(3, 1), "mse", use("sgd", lr=0.2))
        trainer(tmp_path, max_epochs=60, accumulate_grad_batches=2).fit(module, loader, loader)
        torch.testing.assert_close(module.network.weight, torch.ones(1, 3), atol=1e-2, rtol=0)

    def test_a_loader_without_sizes_is_refused(self, tmp_path):
        module = ComponentModule("linear", "mse", SGD)
        loader = DataLoader(TensorDataset(torch.zeros(4, 2), torch.zeros(4, 1)))
        with pytest.raises(ConfigurationError, match="sizes are not known"):
            trainer(tmp_path).fit(module, loader, loader)

    @pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw"])
    @pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
    def test_every_optimizer_learns_in_every_precision(self, tmp_path, optimizer, precision):
        module = ComponentModule(
            use("mlp", hidden=[8]), "mse", use(optimizer, lr=0.02), ["l2"], use("inverse_time", decay=0.01)
        )
        run = trainer(tmp_path, max_epochs=40, precision=precision, gradient_clip_val=5.0)
        run.fit(module, regression())
        assert run.callback_metrics["val/r2"].item() > 0.0

    def test_weight_decay_spares_biases_and_norms(self, tmp_path):
        module = ComponentModule(use("mlp", hidden=[4], batch_norm=True), "mse", use("adamw", weight_decay=0.1))
        run = trainer(tmp_path, max_epochs=1)
        run.fit(module, regression())
        decayed, spared = run.optimizers[0].param_groups
        assert decayed["weight_decay"] == 0.1
        assert {p.ndim for p in decayed["params"]} == {2}
        assert spared["weight_decay"] == 0.0
        assert {p.ndim for p in spared["params"]} == {1}

    def test_a_batch_of_one_row_and_batch_norm_do_not_go_together(self, tmp_path):
        module = ComponentModule(use("mlp", batch_norm=True), "mse", SGD)
        with pytest.raises(ConfigurationError, match="at least 2 rows"):
            trainer(tmp_path).fit(module, regression(split=[1.0, 0.0, 0.0], batch_size=59))

    def test_a_watched_metric_must_exist(self, tmp_path):
        module = ComponentModule("linear", "mse", SGD, scheduler=use("plateau", monitor="val/accuracy"))
        with pytest.raises(ConfigurationError, match="val/accuracy, which no epoch logs"):
            trainer(tmp_path).fit(module, regression())
        module = ComponentModule("linear", "mse", SGD, scheduler="plateau")
        with pytest.raises(ConfigurationError, match="val/loss, which no epoch logs"):
            trainer(tmp_path).fit(module, regression(split=[1.0, 0.0, 0.0]))

    @pytest.mark.parametrize("optimizer", ["sgd", "adam"])
    def test_divergence_stops_before_the_parameters(self, tmp_path, optimizer):
        data, module = regression(), ComponentModule("linear", "mse", use(optimizer, lr=1e30))
        with pytest.raises(NonFiniteGradientError, match=r"network\.map\..* at epoch \d+, step \d+"):
            trainer(tmp_path, max_epochs=50, log_every_n_steps=10).fit(module, data)
        assert all(torch.isfinite(p).all() for p in module.parameters())

    def test_an_undefined_metric_is_null_and_said_once(self, tmp_path):
        table = frame().drop("y")
        one_class = table.filter(polars.col("kind") == "low")
        data = TabularData(table, target="kind", validation=one_class, split=[1.0, 0.0, 0.0])
        module = ComponentModule("linear", "bce", SGD)
        run = trainer(tmp_path, max_epochs=3)
        with pytest.warns(UserWarning, match="val: auroc, average_precision undefined") as record:
            run.fit(module, data)
        assert len([w for w in record if "undefined" in str(w.message)]) == 1
        assert math.isnan(run.callback_metrics["val/auroc"].item())


class TestCheckpoints:
    @pytest.fixture
    def saved(self, tmp_path):
        data, module = regression(), ComponentModule(use("mlp", hidden=[4]), "mse", use("adam", lr=0.01))
        run = trainer(tmp_path, precision="64-true")
        run.fit(module, data)
        path = tmp_path / "saved.ckpt"
        run.save_checkpoint(path)
        return path, module, data

    def test_a_checkpoint_alone_predicts(self, saved):
        path, module, data = saved
        again = ComponentModule.load_from_checkpoint(path, weights_only=True)
        rows = data.frame_of("test").drop("y")
        assert again.predict(rows).equals(module.predict(rows))
        assert again.predict(rows.to_pandas()).equals(module.predict(rows))

    def test_it_records_which_code_made_it(self, saved):
        record = torch.load(saved[0], weights_only=True)["torchplug"]
        assert {"family": "optimizer", "name": "torchplug:adam", "distribution": "torchplug", "version": "0.1.0"} in (
            record["components"]
        )

    @pytest.mark.parametrize("optimizer", ["nesterov", "adam"])
    def test_resuming_goes_on_exactly(self, tmp_path, optimizer):
        def fitted(run, **settings):
            torch.manual_seed(0)
            scheduler = use("inverse_time", decay=0.3)
            module = ComponentModule(use("mlp", hidden=[4]), "mse", use(optimizer, lr=0.01), ["l2"], scheduler)
            run.fit(module, regression(), **settings)
            return module

        whole = fitted(trainer(tmp_path, max_epochs=4))
        first = trainer(tmp_path, max_epochs=2)
        fitted(first)
        first.save_checkpoint(tmp_path / "half.ckpt")
        resumed = fitted(trainer(tmp_path, max_epochs=4), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
        for expected, got in zip(whole.parameters(), resumed.parameters(), strict=True):
            assert torch.equal(expected, got)

    def test_other_data_are_refused(self, tmp_path, saved):
        other = TabularData(frame(seed=1).drop("kind"), target="y", batch_size=12)
        module = ComponentModule(use("mlp", hidden=[4]), "mse", use("adam", lr=0.01))
        with pytest.raises(CheckpointError, match="not those this checkpoint was trained on"):
            trainer(tmp_path).fit(module, other, ckpt_path=saved[0], weights_only=True)

    def test_a_missing_plugin_is_named(self, saved):
        checkpoint = torch.load(saved[0], weights_only=True)
        checkpoint["hyper_parameters"]["loss"] = {"name": "torchplug-nowhere:strange", "parameters": {}}
        torch.save(checkpoint, saved[0])
        with pytest.raises(UnknownComponentError, match="pip install torchplug-nowhere"):
            ComponentModule.load_from_checkpoint(saved[0], weights_only=True)

    def test_a_foreign_checkpoint_is_refused(self, saved):
        checkpoint = torch.load(saved[0], weights_only=True)
        del checkpoint["torchplug"]
        torch.save(checkpoint, saved[0])
        with pytest.raises(CheckpointError, match="not written by torchplug"):
            ComponentModule.load_from_checkpoint(saved[0], weights_only=True)

    def test_an_own_network_comes_back_with_model(self, tmp_path):
        data, module = regression(), ComponentModule(nn.Sequential(nn.Linear(3, 1)), "mse", SGD)
        run = trainer(tmp_path)
        run.fit(module, data)
        run.save_checkpoint(tmp_path / "own.ckpt")
        again = ComponentModule.load_from_checkpoint(
            tmp_path / "own.ckpt", model=nn.Sequential(nn.Linear(3, 1)), weights_only=True
        )
        rows = data.frame_of("test")
        assert again.predict(rows).equals(module.predict(rows))
        with pytest.raises(ConfigurationError, match=r"pass your own nn\.Module"):
            ComponentModule.load_from_checkpoint(tmp_path / "own.ckpt", weights_only=True)

    def test_predicting_before_fitting(self):
        with pytest.raises(ConfigurationError, match="fit first"):
            ComponentModule("linear").predict(np.zeros((2, 3)))


class TestProximal:
    def test_exact_zeros_from_a_fit(self, tmp_path):
        module = ComponentModule("linear", "mse", use("sgd", lr=0.3), [use("l1", coefficient=1.0, proximal=True)])
        trainer(tmp_path, max_epochs=200).fit(module, regression(batch_size="full"))
        assert (module.network.map.weight == 0).any()
        assert (module.network.map.weight != 0).any()

    def test_two_of_them_on_one_parameter_are_refused(self, tmp_path):
        penalties = [use("l1", proximal=True), use("elastic_net", l1=0.1, l2=0.1, proximal=True)]
        with pytest.raises(ConfigurationError, match=r"two proximal regularizers act on map\.weight"):
            trainer(tmp_path).fit(ComponentModule("linear", "mse", SGD, penalties), regression())


def test_the_registry_is_discovered_once():
    assert registry() is registry()
