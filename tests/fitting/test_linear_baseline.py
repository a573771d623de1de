"""A network's fit says whether a linear model does better on the validation rows."""

import json

import numpy as np
import polars
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss, root_mean_squared_error

import torchplug
from torchplug import TabularData, use
from torchplug.fitting import linear_baseline as module_of_baseline

MLP = {"model": use("mlp", hidden=[4]), "loss": use("mse"), "optimizer": use("adam", lr=0.01)}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table(rows=90, kind="linear"):
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, rows))
    y = {"linear": 1.0 + 2.0 * a - 3.0 * b, "product": 4.0 * a * b}[kind] + 0.1 * generator.normal(size=rows)
    columns = {"a": a, "b": b, "y": y, "w": generator.uniform(0.5, 2.0, size=rows)}
    columns["two"] = np.where(y > np.median(y), "high", "low")
    columns["three"] = np.array(["low", "middle", "high"])[np.searchsorted(np.quantile(y, [0.3, 0.7]), y)]
    return polars.DataFrame(columns)


def fit(target="y", loss="mse", epochs=1, kind="linear", source=None, config=None, **settings):
    frame = table(kind=kind)
    left_out = [name for name in ("y", "w", "two", "three") if name not in (target, settings.get("weights"))]
    data = TabularData(frame.drop(left_out) if source is None else source, target, **settings)
    trainer, tracking = {"max_epochs": epochs}, {"mode": "disabled"}
    return torchplug.fit(MLP | {"loss": use(loss)} | (config or {}), data, trainer=trainer, tracking=tracking), data


def rows(data, split):
    return tuple(part.numpy() for part in data.rows_of(split).read(0, data.sizes[split]))


@pytest.mark.parametrize("weights", [None, "w"])
def test_numbers_are_compared_with_ridge(weights):
    result, data = fit(weights=weights)
    (x, y, weight), (validation, _, _) = rows(data, "train"), rows(data, "validation")
    found = result.baseline
    model = Ridge(alpha=found.coefficient * len(x)).fit(x, y, sample_weight=weight)
    mean, spread = (float(part) for part in data.target_scale)
    predicted = mean + spread * model.predict(validation).reshape(-1)
    expected = root_mean_squared_error(data.frame_of("validation")["y"], predicted)
    assert found.wins
    assert (found.kind, found.shown) == ("ridge", "val/rmse")
    assert found.linear["val/rmse"] == pytest.approx(expected, rel=1e-5)
    assert found.model["val/rmse"] == pytest.approx(result.metrics["val/rmse"], rel=1e-4)
    ours, other = found.linear["val/rmse"], found.model["val/rmse"]
    assert str(found) == f"a linear model has the lower val/rmse, {ours:.4g} instead of {other:.4g}"
    assert result.run.outcome["baseline"] == json.loads(json.dumps(found.plain()))


@pytest.mark.parametrize(("target", "loss"), [("two", "bce"), ("three", "cross_entropy")])
@pytest.mark.parametrize("settings", [{}, {"class_weight": "balanced", "weights": "w"}])
def test_classes_are_compared_with_logistic_regression(target, loss, settings):
    result, data = fit(target, loss, **settings)
    (x, y, weight), (validation, true, unseen) = rows(data, "train"), rows(data, "validation")
    model = LogisticRegression(tol=1e-10, max_iter=10_000).fit(x, y.reshape(-1), sample_weight=weight)
    expected = log_loss(true.reshape(-1), model.predict_proba(validation), sample_weight=unseen)
    assert result.baseline.linear["val/loss"] == pytest.approx(expected, rel=1e-3)
    assert result.baseline.wins
    assert result.baseline.shown == "val/loss"


def test_a_network_that_is_better_is_recorded_as_such():
    result, _ = fit(kind="product", epochs=60, config={"model": use("mlp", hidden=[32])})
    assert not result.baseline.wins
    assert str(result.baseline).startswith("the network has the lower val/rmse, ")
    assert result.run.outcome["baseline"]["wins"] is False


def test_it_is_the_best_checkpoint_that_is_compared():
    result, data = fit(epochs=20, config={"optimizer": use("adam", lr=0.3)})
    best = torchplug.load(result.run)
    expected = root_mean_squared_error(data.frame_of("validation")["y"], best.predict(data.frame_of("validation"))["y"])
    assert result.baseline.model["val/rmse"] == pytest.approx(expected, rel=1e-5)


def test_a_temperature_that_predictions_use_is_used():
    result, _ = fit("two", "bce", epochs=30, config={"calibrate": True, "optimizer": use("adam", lr=0.1)})
    after = torchplug.load(result.run).calibration.temperature.log_loss[1]
    assert result.baseline.model["val/loss"] == pytest.approx(after, rel=1e-5)


def test_other_losses_of_numbers_are_compared_by_themselves():
    result, data = fit(loss="l1")
    assert result.baseline.shown == "val/loss"
    spread = float(data.target_scale[1])
    assert result.baseline.linear["val/loss"] == pytest.approx(result.baseline.linear["val/mae"] / spread)


def test_streamed_numbers_are_compared_and_streamed_classes_are_not(tmp_path):
    table().select("a", "b", "y").write_parquet(tmp_path / "numbers.parquet")
    result, _ = fit(source="numbers.parquet", stream=True)
    assert result.baseline.wins
    table().select("a", "b", "two").write_parquet(tmp_path / "classes.parquet")
    assert fit("two", "bce", source="classes.parquet", stream=True)[0].baseline is None


@pytest.mark.parametrize(
    ("target", "loss", "settings", "config"),
    [
        ("y", "mse", {}, {"model": use("linear")}),
        ("y", "mse", {"split": [0.8, 0.0, 0.2]}, {}),
        ("y", use("quantile", quantiles=[0.1, 0.9]), {}, {}),
        ("two", "hinge", {}, {}),
    ],
)
def test_there_is_none_where_it_would_say_nothing(target, loss, settings, config):
    config = {"loss": loss, **config}
    result, _ = fit(target, "mse", config=config, **settings)
    assert result.baseline is None
    assert "baseline" not in result.run.outcome


def test_what_takes_too_long_or_fails_is_left_out(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(module_of_baseline, "MOST_WORK", 1.0)
        assert fit()[0].baseline is None

    def fail(*arguments):
        raise torch.linalg.LinAlgError("no eigenvalues")

    monkeypatch.setattr(module_of_baseline, "ridge", fail)
    result, _ = fit()
    assert result.baseline is None
    assert result.outcome.name == "limit"


def test_training_and_generators_are_those_of_a_fit_without_it(monkeypatch):
    result, _ = fit()
    after = torch.rand(3)
    monkeypatch.setattr(module_of_baseline, "MOST_WORK", 1.0)
    other, _ = fit()
    assert torch.equal(torch.rand(3), after)
    assert other.metrics == result.metrics
    assert fit()[0].run.outcome["steps"] == result.run.outcome["steps"]
