"""What a fit keeps of its validation split: intervals of numbers, probabilities of classes."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from scipy.special import expit, logit, softmax
from sklearn.metrics import log_loss
from torch import nn

import torchplug
from small_fits import classification, frame, regression
from torchplug import ComponentModule, Ensemble, TabularData, fit_many, use
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.evaluation.temperature import Temperature
from torchplug.fitting import training
from torchplug.tables import read
from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint

LINEAR = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}
MLP = {"model": use("mlp", hidden=[16]), "optimizer": use("adam", lr=0.02)}
CLASSES = {**MLP, "loss": "bce"}


@pytest.fixture
def fitted(tmp_path):
    """Fit in a run directory below tmp_path."""

    def run(config, data, epochs=3, **settings):
        trainer = {"max_epochs": epochs, "accelerator": "cpu", **settings.pop("trainer", {})}
        quiet = {"tracking": {"mode": "disabled"}, "root": tmp_path / "runs"}
        return torchplug.fit(config, data, trainer=trainer, **quiet, **settings)

    return run


def rank(m, level):
    return math.ceil((m + 1) * level - 1e-9)


def by_definition(module, data, level):
    """Half-widths from what `predict` gives for the validation rows, in NumPy."""
    rows = data.frame_of("validation")
    errors = np.abs(rows.select(data.preprocessing.info.columns).to_numpy() - points(module.predict(rows), data))
    return np.sort(errors, axis=0)[rank(len(errors), level) - 1]


def points(table, data):
    return table.select(data.preprocessing.info.columns).to_numpy()


# ---------------------------------------------------------------------- intervals


@pytest.mark.parametrize("optimizer", [use("adam", lr=0.05), use("lbfgs")])
def test_the_checkpoint_alone_has_intervals_by_its_own_residuals(fitted, optimizer):
    data = regression(split=[0.5, 0.4, 0.1])
    result = fitted({"model": use("mlp", hidden=[8]), "optimizer": optimizer}, data, epochs=20)
    loaded, rows = torchplug.load(result.run), frame(9, seed=5).drop("y", "kind")
    for module in (loaded, result.module):
        table = module.predict(rows, interval=0.8)
        half = by_definition(module, data, 0.8)
        assert table.columns == ["y", "y_lower", "y_upper"]
        np.testing.assert_allclose(table["y_upper"] - table["y"], np.full(9, half), rtol=1e-5)
        np.testing.assert_allclose(table["y"] - table["y_lower"], np.full(9, half), rtol=1e-5)
        assert table["y"].equals(module.predict(rows)["y"])


def test_each_target_column_has_its_own_width(fitted):
    table = frame(200).drop("kind").with_columns(z=100 * pl.col("a") + pl.col("y"))
    data = TabularData(table, target=["y", "z"], batch_size=40)
    result = fitted({**LINEAR, "loss": "l1"}, data, epochs=5)
    predicted = torchplug.load(result.run).predict(table.drop("y", "z"), interval=0.9)
    assert predicted.columns == ["y", "z", "y_lower", "y_upper", "z_lower", "z_upper"]
    halves = by_definition(torchplug.load(result.run), data, 0.9)
    for column, half in zip("yz", halves, strict=True):
        np.testing.assert_allclose(predicted[f"{column}_upper"] - predicted[column], np.full(200, half), rtol=1e-5)


def test_quantiles_have_an_interval_around_the_median(fitted):
    result = fitted({**LINEAR, "loss": use("quantile", quantiles=[0.1, 0.5, 0.9])}, regression())
    table = result.module.predict(frame(5).drop("y", "kind"), interval=0.7)
    assert table.columns == ["y_q0.1", "y_q0.5", "y_q0.9", "y_lower", "y_upper"]
    np.testing.assert_allclose((table["y_lower"] + table["y_upper"]) / 2, table["y_q0.5"], rtol=1e-9)


def test_intervals_of_counts_stay_at_0_or_above(fitted):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2))
    data = TabularData((x, rng.poisson(np.exp(0.3 * x[:, 0]))), batch_size=40, split=[0.5, 0.4, 0.1])
    table = fitted({**LINEAR, "loss": "poisson_nll"}, data, epochs=10).module.predict(x, interval=0.9)
    assert table["y_lower"].min() == 0.0
    assert (table["y_upper"] > table["y"]).all()


def noisy(n, seed):
    """House-price-like: skewed features, an interaction, noise that grows with the level."""
    rng = np.random.default_rng(seed)
    income, rooms, age = rng.lognormal(1.2, 0.4, n), rng.normal(5, 1, n), rng.uniform(1, 50, n)
    level = 0.6 * income + 0.2 * rooms * (age < 20) - 0.01 * age
    return pl.DataFrame({"income": income, "rooms": rooms, "age": age, "price": level * rng.lognormal(0, 0.25, n)})


@pytest.mark.parametrize("seed", range(2))
def test_nine_of_ten_new_rows_are_covered(fitted, seed):
    data = TabularData(noisy(3000, seed), "price", batch_size=100, split=[0.6, 0.4], seed=seed)
    assert_covered(fitted({**MLP, "loss": "mse"}, data, epochs=15, seed=seed), noisy(20_000, 100 + seed), "price")


def test_rows_of_a_real_table_are_covered(fitted):
    """Pixels of the bundled digits: the sum of the lower half's, from the upper half's."""
    digits = read("digits")
    pixels = [name for name in digits.columns if name != "target"]
    table = digits.select(pixels[:32]).with_columns(lower=digits.select(pixels[32:]).sum_horizontal())
    order = np.random.default_rng(0).permutation(len(table))
    known, new = table[order[:1400]], table[order[1400:]]
    result = fitted(LINEAR, TabularData(known, "lower", batch_size=32, split=[0.28, 0.72]), epochs=30)
    assert result.module.calibration.residuals.rows >= 1000
    assert_covered(result, new, "lower")


def assert_covered(result, new, target):
    predicted = torchplug.load(result.run).predict(new, interval=0.9)
    covered = (new[target] >= predicted[f"{target}_lower"]) & (new[target] <= predicted[f"{target}_upper"])
    assert 0.88 <= covered.mean() <= 0.92


@pytest.mark.parametrize(
    ("config", "data", "level", "reason"),
    [
        (CLASSES, classification(), 0.9, "predictions of binary losses come with probabilities"),
        ({**LINEAR, "loss": "hinge"}, classification(), 0.9, "predictions of margin losses come with scores"),
        (LINEAR, regression(split=[1.0]), 0.9, "a fit with a validation split keeps them in its best.ckpt"),
        (LINEAR, regression(), 0.95, "needs at least 19 validation rows, and there were 12: ask for at most 0.923"),
        (LINEAR, regression(), 90, "between 0 and 1, such as 0.9, not 90"),
    ],
)
def test_intervals_that_are_refused(fitted, config, data, level, reason):
    result = fitted(config, data, epochs=1)
    for module in (result.module, torchplug.load(result.run)):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            module.predict(frame(3), interval=level)
        assert "\n" not in str(caught.value)


def test_a_name_that_is_taken_is_refused(fitted):
    table = frame(60).drop("kind").with_columns(y_lower=pl.col("y") - 1)
    result = fitted(LINEAR, TabularData(table, target=["y", "y_lower"], batch_size=12), epochs=1)
    with pytest.raises(ConfigurationError, match="have a column y_lower already"):
        result.module.predict(table, interval=0.5)


def test_a_fit_that_was_killed_before_it_calibrated_does_so_when_it_is_resumed(fitted, monkeypatch):
    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "calibrate_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        fitted(LINEAR, regression())
    monkeypatch.undo()
    (run,) = fitted.__closure__[0].cell_contents.glob("runs/fit/*")
    with pytest.raises(ConfigurationError, match="when it is resumed and ends"):
        torchplug.load(run).predict(frame(3), interval=0.5)
    fitted(LINEAR, regression(), ckpt_path=run / "checkpoints" / "last.ckpt")
    whole = fitted(LINEAR, regression())
    expected = torchplug.load(whole.run).predict(frame(3), interval=0.5)
    assert torchplug.load(run).predict(frame(3), interval=0.5).equals(expected)


def test_training_is_the_same_after_a_calibrated_checkpoint(fitted):
    """A resumed fit starts without the calibration of other parameters, and ends with its own."""
    first = fitted(LINEAR, regression(), epochs=2)
    best = first.run.best
    longer = fitted(LINEAR, regression(), epochs=4, ckpt_path=best)
    whole = fitted(LINEAR, regression(), epochs=4)
    assert longer.module.predict(frame(3), interval=0.5).equals(whole.module.predict(frame(3), interval=0.5))
    assert read_checkpoint(longer.run.last)["torchplug"]["calibration"] is None


def test_a_network_of_your_own_is_left_as_it_is(fitted):
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    data = regression(split=[0.5, 0.4, 0.1])
    result = fitted({"model": network, "optimizer": use("adam", lr=0.2)}, data, epochs=30)
    last, best = (read_checkpoint(file)["state_dict"] for file in (result.run.last, result.run.best))
    for name, value in network.state_dict().items():
        assert torch.equal(value, last[f"network.{name}"])
    assert not all(torch.equal(value, last[name]) for name, value in best.items()), "an earlier epoch shall be best"
    again = ComponentModule.load_from_checkpoint(result.run.best, model=network, weights_only=True)
    half = again.predict(frame(3), interval=0.8)["y_upper"] - again.predict(frame(3))["y"]
    np.testing.assert_allclose(half, np.full(3, by_definition(again, data, 0.8)), rtol=1e-5)


def test_many_models_have_intervals(tmp_path):
    data = regression(split=[0.5, 0.4, 0.1])
    alone = {"model": use("linear"), "optimizer": use("lbfgs")}
    results = fit_many([MLP, {**MLP, "seed": 1}, alone], data, trainer={"max_epochs": 4, "accelerator": "cpu"})
    rows = frame(5, seed=9)
    data.prepare(results[0].module.data_request())
    for result in results[:2]:
        half = result.module.predict(rows, interval=0.8)["y_upper"] - result.module.predict(rows)["y"]
        np.testing.assert_allclose(half, np.full(5, by_definition(result.module, data, 0.8)), rtol=1e-5)
    assert "y_lower" in results[2].module.predict(rows, interval=0.8).columns
    results[0].save_checkpoint(tmp_path / "one.ckpt")
    expected = results[0].module.predict(rows, interval=0.8)
    assert torchplug.load(tmp_path / "one.ckpt").predict(rows, interval=0.8).equals(expected)

    ensemble = Ensemble([result.module for result in results[:2]])
    with pytest.raises(ConfigurationError, match=r"after `Ensemble.calibrate_on` with rows that trained no member"):
        ensemble.predict(rows, interval=0.8)
    ensemble.calibrate_on(data.frame_of("validation"))
    table = ensemble.predict(rows, interval=0.8)
    np.testing.assert_allclose(table["y_upper"] - table["y"], np.full(5, by_definition(ensemble, data, 0.8)), rtol=1e-9)
    ensemble.save_checkpoint(tmp_path / "all.ckpt")
    assert torchplug.load(tmp_path / "all.ckpt").predict(rows, interval=0.8).equals(table)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"residuals": 3, "temperature": None}, "calibration cannot be read"),
        ({"temperature": None}, "calibration cannot be read"),
        ("none", "calibration cannot be read"),
        ({"residuals": None, "temperature": {"value": -1.0}}, "calibration cannot be read"),
    ],
)
def test_damaged_calibrations_are_refused(fitted, damage, reason):
    result = fitted(LINEAR, regression(), epochs=1)
    content = read_checkpoint(result.run.best)
    content["torchplug"]["calibration"] = damage
    write_checkpoint(content, result.run.best)
    with pytest.raises(CheckpointError, match=reason):
        torchplug.load(result.run.best)


def test_residuals_of_another_target_are_refused(fitted):
    result = fitted(LINEAR, regression(), epochs=1)
    content = read_checkpoint(result.run.best)
    residuals = content["torchplug"]["calibration"]["residuals"]
    residuals["values"] = residuals["values"].repeat(1, 2)
    write_checkpoint(content, result.run.best)
    with pytest.raises(CheckpointError, match="residuals of 2 columns, not 1"):
        torchplug.load(result.run.best)


# ---------------------------------------------------------------------- temperature


@pytest.fixture(scope="module")
def uncertain():
    """Two classes that overlap, with weights."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, 6))
    y = np.where(x[:, 0] + 1.5 * rng.normal(size=400) > 0, "yes", "no")
    return pl.DataFrame({**{f"x{j}": x[:, j] for j in range(6)}, "w": rng.uniform(0.5, 2, 400), "y": y})


@pytest.mark.parametrize("loss", ["bce", "cross_entropy"])
def test_probabilities_are_those_of_scaled_scores(fitted, uncertain, loss):
    data = TabularData(uncertain, "y", weights="w", batch_size=20, split=[0.4, 0.4, 0.2])
    config = {"model": use("mlp", hidden=[32]), "optimizer": use("adam", lr=0.02), "loss": loss}
    plain = torchplug.load(fitted(config, data, epochs=40).run)
    result = fitted({**config, "calibrate": True}, data, epochs=40)
    scaled = torchplug.load(result.run)
    rows = data.frame_of("validation")
    before, after = plain.predict(rows), scaled.predict(rows)
    assert after["y"].equals(before["y"]), "labels never change"
    T = scaled.temperature
    assert abs(T - 1) > 0.01, "the temperature shall matter"
    p = before["probability_yes"].to_numpy()
    np.testing.assert_allclose(after["probability_yes"], expit(logit(p) / T), rtol=1e-6)
    losses = [log_loss(rows["y"], table["probability_yes"], sample_weight=rows["w"]) for table in (before, after)]
    assert scaled.calibration.temperature.log_loss == pytest.approx(losses, rel=1e-5)
    assert losses[1] < losses[0]
    assert plain.temperature == 1.0
    assert plain.calibration.temperature.value == pytest.approx(T, rel=1e-9), "kept in any case, used where asked for"
    validated = validation_loss(scaled, data)
    assert validated == pytest.approx(losses[1], rel=1e-5)
    assert result.metrics["val/loss"] > validated, "metrics of training are those of the scores themselves"


def validation_loss(module, data):
    import lightning

    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (values,) = trainer.validate(module, datamodule=data, verbose=False)
    return values["val/loss"]


def test_the_temperature_of_three_classes_is_that_of_the_best_epoch(fitted):
    data = TabularData("wine", batch_size=16, split=[0.4, 0.4, 0.2])
    config = {"model": use("mlp", hidden=[8]), "optimizer": use("adam", lr=0.01), "loss": "cross_entropy"}
    run = fitted({**config, "calibrate": True}, data, epochs=3).run
    module = torchplug.load(run)
    rows = data.rows_of("validation").read(0, data.sizes["validation"])
    with torch.no_grad():
        scores = module.network(rows.features.float()).double()
    expected = Temperature.of(scores, rows.target, rows.weight)
    assert module.temperature == pytest.approx(expected.value, rel=1e-4)
    predicted = module.predict(data.frame_of("validation")).select(pl.selectors.starts_with("probability_"))
    np.testing.assert_allclose(predicted, softmax(scores / module.temperature, axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    ("config", "data", "reason"),
    [
        ({**LINEAR, "loss": "hinge"}, classification(), "hinge predicts scores: choose bce or cross_entropy"),
        ({**LINEAR, "loss": "mse"}, regression(), "mse predicts numbers: leave it out"),
        ({**LINEAR, "loss": "poisson_nll"}, regression(), "poisson_nll predicts numbers: leave it out"),
        ({**LINEAR, "loss": "bce"}, classification(split=[1.0]), "needs validation rows, and there are none"),
        ({**LINEAR, "loss": "bce", "calibrate": "yes"}, classification(), "true or false, not 'yes'"),
    ],
)
def test_calibrate_that_is_refused(fitted, tmp_path, config, data, reason):
    with pytest.raises(ConfigurationError, match=reason) as caught:
        fitted({"calibrate": True, **config}, data)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("runs/fit/*")), "nothing is left behind"


def test_a_checkpoint_without_a_temperature_says_so(fitted):
    result = fitted({**CLASSES, "calibrate": True}, classification(), epochs=2)
    with pytest.warns(UserWarning, match="probabilities are not scaled"):
        assert torchplug.load(result.run.last).temperature == 1.0
