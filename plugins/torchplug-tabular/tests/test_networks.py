"""Networks: their formulas, embedded categories, members, and what they learn through the core."""

import numpy as np
import polars
import pytest
import torch
from sklearn.datasets import make_friedman1

import torchplug
from torchplug import TabularData, fit_many, use
from torchplug_tabular.realmlp import RealMLP
from torchplug_tabular.resnet import ResNet
from torchplug_tabular.tabm import TabM

SMALL = {
    "realmlp": use("realmlp", hidden=[64, 64]),
    "tabm": use("tabm", hidden=[64], members=4),
    "resnet": use("resnet", width=32, blocks=2),
}
RATES = {"realmlp": 0.1, "tabm": 0.01, "resnet": 0.01}
TRAINER = {"max_epochs": 30, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


@pytest.fixture(scope="module")
def table():
    x, y = make_friedman1(600, n_features=6, noise=0.5, random_state=0)
    return polars.DataFrame({**{f"x{j}": x[:, j] for j in range(6)}, "y": y})


@pytest.fixture(scope="module")
def towns():
    """A target that depends on a category with 26 levels alone."""
    rng = np.random.default_rng(0)
    codes = rng.integers(26, size=800)
    names = np.array([f"town {chr(97 + code)}" for code in codes])
    return polars.DataFrame({"town": names, "x": rng.normal(size=800), "price": 10.0 * np.sin(1.0 + codes)})


def fitted(model, data, **settings):
    config = {"model": SMALL[model], "optimizer": use("adamw", lr=RATES[model]), "scheduler": "flat_cosine", **settings}
    return torchplug.fit(config, data, trainer=TRAINER, tracking={"mode": "disabled"})


@pytest.mark.parametrize("model", SMALL)
def test_a_smooth_target_is_learned(model, table, tmp_path, monkeypatch):
    """A linear model explains 0.75 of the variance of Friedman's first problem."""
    monkeypatch.chdir(tmp_path)
    result = fitted(model, TabularData(table, "y", batch_size=64))
    assert result.metrics["val/r2"] > 0.9


@pytest.mark.parametrize("model", SMALL)
def test_a_large_category_is_embedded_and_predicted_from_a_checkpoint(model, towns, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = fitted(model, TabularData(towns, "price", batch_size=64))
    assert result.module.network.inputs.categories.tables[0].shape == (26, 8)
    assert result.metrics["val/r2"] > 0.95
    loaded = torchplug.load(result.run.last)
    rows = towns[:50]
    assert loaded.predict(rows).equals(result.module.predict(rows))


def test_small_categories_stay_0_1_features(towns):
    network = RealMLP(27, 1, categories=[(0, 26)], max_onehot=26)
    assert network.inputs.categories is None
    assert network.inputs.width == 27 * 4


def test_a_table_of_one_large_category_has_no_numbers():
    network = ResNet(26, 2, categories=[(0, 26)], embedding="periodic")
    assert network.inputs.width == 8
    assert network(torch.eye(26)).shape == (26, 2)


def test_members_are_independent_in_training_and_averaged_in_evaluation():
    torch.manual_seed(0)
    network = TabM(3, 2, members=4, hidden=[8, 8], dropout=0.0)
    x = torch.randn(5, 3)
    scores = network(x)
    assert scores.shape == (4, 5, 2)
    torch.testing.assert_close(network.eval()(x), scores.mean(0))
    network.train()(x)[1].sum().backward()
    own = network.layers[3].before.grad.abs().sum((1, 2)) > 0
    assert own.tolist() == [False, True, False, False]


def test_a_member_is_a_perceptron_with_scaled_units():
    torch.manual_seed(0)
    network = TabM(3, 1, members=2, hidden=[8], dropout=0.0, embedding=None).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    first = network.layers[0]
    for j in range(2):
        r, s, b = (p[j].detach().numpy() for p in (first.before, first.after, first.bias))
        hidden = np.maximum(((x.numpy() * r) @ first.weight.detach().numpy()) * s + b, 0.0)
        expected = hidden @ network.weight[j].detach().numpy() + network.bias[j].detach().numpy()
        np.testing.assert_allclose(network(x)[j].detach(), expected, rtol=1e-12, atol=1e-13)


def test_learning_rates_and_weight_decay_are_the_published_ones(table):
    config = {"model": use("realmlp", hidden=[8]), "optimizer": use("adamw", lr=0.2, weight_decay=0.02)}
    module = torchplug.ComponentModule(**config)
    data = TabularData(table, "y")
    data.prepare(module.data_request())
    module.configure(data)
    names = {id(p): name for name, p in module.network.named_parameters()}
    found = {
        names[id(p)]: (round(group["lr"] / 0.2, 9), group["weight_decay"])
        for group in module.build_optimizer().param_groups
        for p in group["params"]
    }
    assert found == {
        "inputs.numbers.frequency": (0.1, 0.002),
        "inputs.numbers.phase": (0.1, 0.002),
        "inputs.numbers.weight": (0.1, 0.002),
        "inputs.numbers.bias": (0.1, 0.002),
        "layers.0.scale": (6.0, 0.12),
        "layers.1.weight": (1.0, 0.02),
        "layers.1.bias": (0.1, 0.0),
        "layers.2.mix": (0.1, 0.002),
        "layers.4.weight": (1.0, 0.02),
        "layers.4.bias": (0.1, 0.0),
    }


@pytest.mark.parametrize("model", SMALL)
def test_categories_are_embedded_when_models_are_trained_at_once(model, towns, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"dropout": 0.0, **({"residual_dropout": 0.0} if model == "resnet" else {})}
    spec = use(SMALL[model].name, **{**SMALL[model].parameters, **settings})
    configs = [{"model": spec, "optimizer": use("adam", lr=rate)} for rate in (0.01, 0.02)]
    data = TabularData(towns, "price", batch_size=64)
    for result in fit_many(configs, data, trainer={**TRAINER, "max_epochs": 1}):
        assert result.module.network.inputs.categories.tables[0].shape == (26, 8)


@pytest.mark.parametrize("model", SMALL)
def test_models_trained_at_once_equal_their_own_fits(model, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"dropout": 0.0} if model != "resnet" else {"dropout": 0.0, "residual_dropout": 0.0}
    spec = use(SMALL[model].name, **{**SMALL[model].parameters, **settings})
    configs = [{"model": spec, "optimizer": use("adam", lr=rate)} for rate in (0.01, 0.02)]
    trainer = {**TRAINER, "max_epochs": 2}
    data = TabularData(table[:100], "y", batch_size=32)
    together = fit_many(configs, data, trainer=trainer)
    for config, result in zip(configs, together, strict=True):
        alone = torchplug.fit(config, data, trainer=trainer, tracking={"mode": "disabled"})
        assert result.metrics["val/rmse"] == pytest.approx(alone.metrics["val/rmse"], rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RealMLP(3, 1, activation="relu"), "activation must be one of mish, selu"),
        (lambda: RealMLP(3, 1, dropout=1.0), "dropout must be in"),
        (lambda: RealMLP(3, 1, hidden=[8, 0]), r"hidden\[1\] must be at least 1, got 0"),
        (lambda: RealMLP(3, 1, embedding="fourier"), "embedding must be one of periodic, piecewise_linear"),
        (lambda: RealMLP(3, 1, frequency_scale=0.0), "frequency_scale must be positive"),
        (lambda: TabM(3, 1, hidden=[]), "hidden needs at least one width"),
        (lambda: TabM(3, 1, members=0), "members must be at least 1"),
        (lambda: TabM(3, 1, category_size=0), "category_size must be at least 1"),
        (lambda: ResNet(3, 1, blocks=0), "blocks must be at least 1"),
        (lambda: ResNet(3, 1, hidden_factor=0.0), "hidden_factor must be positive"),
        (lambda: ResNet(3, 1, residual_dropout=-0.1), "residual_dropout must be in"),
    ],
)
def test_parameters_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
