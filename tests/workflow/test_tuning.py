"""Range tests of the learning rate, trials of batch sizes, and the gradient noise scale."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

import torchplug
from torchplug import ComponentModule, TabularData, use
from torchplug.errors import ConfigurationError
from torchplug.workflow.tuning.learning_rate import steepest
from torchplug.workflow.tuning.noise_scale import noise_scale

CONFIG = {"model": "linear", "loss": "mse", "optimizer": use("sgd", lr=0.1)}


def table(n=320, noise=1.0, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n, 3))
    return X, X @ [1.0, -2.0, 0.5] + noise * generator.standard_normal(n)


@pytest.fixture
def options(tmp_path):
    return {"tracking": {"mode": "disabled"}, "root": tmp_path / "runs", "trainer": {"accelerator": "cpu"}}


# ---------------------------------------------------------------------- learning rate


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop"])
def test_rates_rise_until_the_loss_diverges(options, optimizer):
    config = {**CONFIG, "optimizer": use(optimizer)}
    data = TabularData(table(), split=[1.0], batch_size=32)
    found = torchplug.tune_lr(config, data, lowest=1e-4, highest=100.0, steps=60, **options)
    rates = np.geomspace(1e-4, 100.0, 60)
    np.testing.assert_allclose(found.table["lr"], rates[: found.table.height], rtol=1e-12)
    assert found.table.height < 60
    smoothed = found.table["smoothed"].to_list()
    assert found.suggestion == pytest.approx(steepest(rates.tolist(), smoothed))
    assert found.suggestion < found.table["lr"][int(np.argmin(smoothed))]
    assert (found.run.path / "lr.png").is_file()
    assert pl.read_csv(found.run.path / "lr.csv").equals(found.table)


def test_the_losses_are_those_of_sgd_with_these_rates(options):
    """One batch of all rows: each step by hand, in double precision."""
    X, y = table(64)
    config = {**CONFIG, "optimizer": use("sgd")}
    data = TabularData((X, y), split=[1.0], batch_size="full", scale="none")
    given = {**options, "trainer": {"accelerator": "cpu", "precision": "64-true"}}
    found = torchplug.tune_lr(config, data, lowest=1e-3, highest=0.1, steps=12, seed=3, **given)
    module = ComponentModule(**config)
    prepared = data.copied()
    prepared.prepare(module.data_request())
    torch.manual_seed(3)
    module.configure(prepared)
    theta = np.append(*(p.detach().double().numpy().ravel() for p in module.network.parameters()))
    design, losses = np.column_stack([X, np.ones(len(y))]), []
    for rate in np.geomspace(1e-3, 0.1, 12):
        residual = design @ theta - y
        losses.append(np.mean(residual**2))
        theta = theta - rate * 2 * design.T @ residual / len(y)
    np.testing.assert_allclose(found.table["loss"], losses, rtol=1e-6)


def test_model_data_and_generators_stay_as_they_are(options):
    network = nn.Linear(3, 1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    data = TabularData(table(), split=[1.0], batch_size=32)
    state = torch.random.get_rng_state()
    torchplug.tune_lr({**CONFIG, "model": network}, data, steps=10, **options)
    torchplug.tune_batch_size({**CONFIG, "model": network}, data, sizes=[16, 64], seconds=0.01, **options)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert (data.batch_size, data.sizes) == (32, {})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"lowest": 1.0, "highest": 0.1}, "give 0 < lowest < highest"),
        ({"lowest": 0.0}, "give 0 < lowest < highest"),
        ({"steps": 5}, "at least 10"),
    ],
)
def test_ranges_that_are_refused(options, settings, reason):
    with pytest.raises(ConfigurationError, match=reason):
        torchplug.tune_lr(CONFIG, TabularData(table()), **settings, **options)
    assert not options["root"].exists()


def test_full_batch_optimizers_have_nothing_to_tune(options):
    config = {**CONFIG, "optimizer": "closed_form"}
    for tune in (torchplug.tune_lr, torchplug.tune_batch_size):
        with pytest.raises(ConfigurationError, match="closed_form sees the whole training set"):
            tune(config, TabularData(table()), **options)


# ---------------------------------------------------------------------- batch size and noise


def test_batch_sizes(options):
    data = TabularData(table(n=200), split=[1.0])
    config = {**CONFIG, "optimizer": use("sgd", lr=1e-3)}
    found = torchplug.tune_batch_size(config, data, seconds=0.02, **options)
    assert found.table["batch_size"].to_list() == [16, 32, 64, 128, 200]
    assert found.largest == 200
    rows = found.table.to_dicts()
    assert found.fastest == max(rows, key=lambda row: row["samples_per_second"])["batch_size"]
    for row in rows:
        assert row["steps"] == pytest.approx(1 + found.noise_scale / row["batch_size"])
        assert row["samples"] == pytest.approx(1 + row["batch_size"] / found.noise_scale)
    times = [row["samples"] / row["samples_per_second"] for row in rows]
    assert [row["time"] for row in rows] == pytest.approx([own / min(times) for own in times])
    assert found.suggestion == rows[int(np.argmin(times))]["batch_size"]
    assert (found.run.path / "batch_sizes.png").is_file()


def test_growth_ends_where_memory_does(options, monkeypatch):
    """An allocator's error is the end, and what fitted before counts."""
    from torchplug.workflow.tuning.trial import Trials

    train = Trials.train

    def limited(self, callback, batch_size=None, **limits):
        if batch_size > 64:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return train(self, callback, batch_size, **limits)

    monkeypatch.setattr(Trials, "train", limited)
    found = torchplug.tune_batch_size(CONFIG, TabularData(table(200), split=[1.0]), seconds=0.02, **options)
    assert found.largest == 64
    assert any("batch size 128: there is not enough memory" in note for note in found.run.notes)


@pytest.mark.parametrize("settings", [{"sizes": []}, {"sizes": [0]}, {"seconds": 0.0}])
def test_sizes_that_are_refused(options, settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        torchplug.tune_batch_size(CONFIG, TabularData(table()), **settings, **options)


def test_noise_scale_is_that_of_gradients_of_single_rows():
    """At θ = 0 of a linear model: B = tr Σ / |G|² from each row's own gradient."""
    X, y = table(n=4096)
    module = ComponentModule(**CONFIG)
    data = TabularData((X, y), split=[1.0], scale="none")
    data.prepare(module.data_request())
    module.configure(data)
    for parameter in module.network.parameters():
        nn.init.zeros_(parameter)
    gradients = -2.0 * y[:, None] * np.column_stack([X, np.ones(len(y))])
    expected = gradients.var(axis=0, ddof=1).sum() / (gradients.mean(axis=0) ** 2).sum()
    assert noise_scale(module, data.training_set) == pytest.approx(expected, rel=0.2)


def test_at_a_minimum_there_is_no_signal():
    X, y = table(n=512)
    module = ComponentModule(**CONFIG)
    data = TabularData((X, y), split=[1.0], scale="none")
    data.prepare(module.data_request())
    module.configure(data)
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(len(y))]), y, rcond=None)[0]
    weight, bias = module.network.parameters()
    with torch.no_grad():
        weight.copy_(torch.from_numpy(solution[:3]))
        bias.fill_(solution[3])
    assert noise_scale(module, data.training_set) == math.inf
