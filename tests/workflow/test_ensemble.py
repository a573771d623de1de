"""`fit_ensemble`: each member is its own fit, and the ensemble predicts from one run directory."""

import copy
import logging

import numpy as np
import polars as pl
import pytest
from lightning.pytorch.callbacks import EarlyStopping
from sklearn import metrics

import torchplug
from many.interrupting import interrupted_after
from small_fits import classification, frame, regression
from torchplug import Ensemble, TabularData, fit_ensemble, use
from torchplug.errors import CheckpointError, ConfigurationError, DataError, TrainingError

MLP = {"model": use("mlp", hidden=[8], dropout=0.1), "optimizer": use("adam", lr=0.1)}
LINEAR = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}
OFF = {"mode": "disabled"}
TRAINER = {"max_epochs": 8, "accelerator": "cpu", "precision": "64-true"}
STOPPING = {**TRAINER, "callbacks": EarlyStopping("val/loss", patience=2)}


@pytest.fixture
def ensemble(tmp_path):
    def run(config, data, **settings):
        return fit_ensemble(
            config, data, **{"trainer": TRAINER, "tracking": OFF, "root": tmp_path / "runs", **settings}
        )

    return run


@pytest.fixture
def alone(tmp_path):
    """The best checkpoint of a fit of its own."""

    def run(config, data, seed=0, trainer=TRAINER):
        options = {"trainer": copy.deepcopy(trainer), "tracking": OFF, "root": tmp_path / "alone"}
        return torchplug.load(torchplug.fit(config, data, seed=seed, **options).run.best)

    return run


def assert_member(member, its):
    np.testing.assert_allclose(member.predictions(frame()), its.predictions(frame()), rtol=1e-8, atol=1e-10)


# ---------------------------------------------------------------------- members are their own fits


@pytest.mark.parametrize("data", [regression, classification])
@pytest.mark.parametrize("trainer", [TRAINER, STOPPING], ids=["all epochs", "early stopping"])
@pytest.mark.parametrize("own", [{}, {"steps_per_execution": 2}], ids=["one program", "one by one"])
def test_a_member_by_seed_is_the_fit_of_that_seed(ensemble, alone, data, trainer, own):
    config = {**MLP, "loss": "mse" if data is regression else "bce", **own}
    found = ensemble(config, data(), members=3, seed=5, trainer=copy.deepcopy(trainer))
    for number, member in enumerate(found.ensemble.members):
        assert_member(member, alone(config, data(), seed=5 + number, trainer=trainer))


def test_a_member_by_folds_is_the_fit_of_that_fold(ensemble, alone):
    found = ensemble(MLP, regression(), members=3, by="folds", seed=2)
    for member, fold in zip(found.ensemble.members, regression().folds(3, seed=2), strict=True):
        assert_member(member, alone(MLP, regression().fold(*fold), seed=2))


def test_a_member_by_bootstrap_is_the_fit_of_that_sample(ensemble, alone):
    found = ensemble(LINEAR, regression(), members=3, by="bootstrap", seed=2)
    for member, sample in zip(found.ensemble.members, regression().bootstrap(3, seed=2), strict=True):
        assert_member(member, alone(LINEAR, regression().fold(*sample, replacement=True), seed=2))


# ---------------------------------------------------------------------- what the ensemble is


def test_metrics_of_numbers_are_those_of_the_mean_prediction(ensemble):
    found = ensemble(MLP, regression(), members=4)
    data = regression()
    data.prepare(found.ensemble.members[0].data_request())
    rows = data.frame_of("validation")
    each = np.stack([member.predict(rows)["y"].to_numpy() for member in found.ensemble.members])
    true, mean = rows["y"].to_numpy(), each.mean(axis=0)
    assert found.metrics["val/rmse"] == pytest.approx(metrics.root_mean_squared_error(true, mean), rel=1e-9)
    assert found.metrics["val/r2"] == pytest.approx(metrics.r2_score(true, mean), rel=1e-6)
    own = [metrics.root_mean_squared_error(true, one) for one in each]
    assert found.members["val/rmse"] == pytest.approx(own, rel=1e-9)
    assert found.mean["val/rmse"] == pytest.approx(np.mean(own), rel=1e-9)
    assert found.deviation["val/rmse"] == pytest.approx(np.std(own), rel=1e-9)
    scale = found.ensemble.members[0].preprocessing.target_coding.scale.item()
    assert found.metrics["val/loss"] == pytest.approx((found.metrics["val/rmse"] / scale) ** 2, rel=1e-9)
    predicted = found.ensemble.predict(rows, spread=True)
    assert predicted.columns == ["y", "y_spread"]
    np.testing.assert_allclose(predicted["y"], mean, rtol=1e-12)
    np.testing.assert_allclose(predicted["y_spread"], each.std(axis=0), rtol=1e-9)
    assert predicted["y"].equals(found.ensemble.predict(rows)["y"])
    assert found.line == (
        f"ensemble of 4: val/rmse {found.metrics['val/rmse']:.4g} (members {np.mean(own):.4g} ± {np.std(own):.2g})"
    )


@pytest.mark.parametrize(
    ("loss", "data", "target"), [("bce", classification(), "kind"), ("cross_entropy", TabularData("iris"), "target")]
)
def test_metrics_of_classes_are_those_of_the_mean_probability(ensemble, loss, data, target):
    found = ensemble({**MLP, "loss": loss}, data, members=3)
    own = data.copied()
    own.prepare(found.ensemble.members[0].data_request())
    rows = own.frame_of("validation")
    tables = [member.predict(rows) for member in found.ensemble.members]
    names = tables[0].columns[1:]
    each = np.stack([table.select(names).to_numpy() for table in tables])
    labels = [name.removeprefix("probability_") for name in names]
    true = rows[target].cast(pl.String).to_numpy()
    expected = metrics.log_loss(true, each.mean(axis=0), labels=labels)
    assert found.metrics["val/loss"] == pytest.approx(expected, rel=1e-7)
    right = np.array(labels)[each.mean(axis=0).argmax(axis=1)] == true
    assert found.metrics["val/accuracy"] == pytest.approx(right.mean(), rel=1e-9)
    predicted = found.ensemble.predict(rows, spread=True)
    assert predicted.columns == [target, *names, *(f"spread_{label}" for label in labels)]
    np.testing.assert_allclose(predicted.select(f"spread_{label}" for label in labels), each.std(axis=0), atol=1e-12)


@pytest.mark.parametrize("by", ["seed", "bootstrap"])
def test_intervals_are_by_the_residuals_of_the_mean_prediction(ensemble, by):
    found = ensemble(LINEAR if by == "bootstrap" else MLP, regression(), members=3, by=by)
    data = regression()
    data.prepare(found.ensemble.members[0].data_request())
    rows = data.frame_of("validation")
    residuals = np.sort(np.abs(rows["y"].to_numpy() - found.ensemble.predict(rows)["y"].to_numpy()))
    expected = residuals[int(np.ceil((len(residuals) + 1) * 0.8)) - 1]
    table = torchplug.load(found.run).predict(rows, interval=0.8, spread=True)
    assert table.columns == ["y", "y_lower", "y_upper", "y_spread"]
    np.testing.assert_allclose((table["y_upper"] - table["y_lower"]).to_numpy(), 2 * expected, rtol=1e-9)


def test_intervals_by_folds_are_by_each_rows_residual_of_the_member_that_has_not_seen_it(ensemble):
    found = ensemble(LINEAR, regression(), members=3, by="folds", seed=2)
    residuals = []
    for member, fold in zip(found.ensemble.members, regression().folds(3, seed=2), strict=True):
        data = regression().fold(*fold)
        data.prepare(member.data_request())
        rows = data.frame_of("validation")
        residuals.extend(np.abs(rows["y"].to_numpy() - member.predict(rows)["y"].to_numpy()))
    expected = np.sort(residuals)[int(np.ceil((len(residuals) + 1) * 0.9)) - 1]
    table = found.ensemble.predict(frame(), interval=0.9)
    np.testing.assert_allclose((table["y_upper"] - table["y"]).to_numpy(), expected, rtol=1e-9)


def test_members_by_folds_share_a_temperature(ensemble):
    config = {**MLP, "loss": "bce", "calibrate": True}
    found = ensemble(config, classification(), members=3, by="folds")
    values = {member.calibration.temperature.value for member in found.ensemble.members}
    assert len(values) == 1
    assert values != {1.0}


def test_large_numbers_are_shown_in_full(ensemble):
    table = frame().drop("kind").with_columns(y=pl.col("y") * 1e7)
    found = ensemble(MLP, TabularData(table, "y", batch_size=12), members=2)
    assert "e+" not in found.line
    assert f"val/rmse {found.metrics['val/rmse']:.0f} (members {found.mean['val/rmse']:.0f} ± " in found.line


def test_metrics_that_are_undefined_stay_so(ensemble):
    found = ensemble(MLP, TabularData(frame(6).drop("kind"), "y"), members=2)
    assert np.isnan([found.metrics["val/r2"], found.mean["val/r2"], found.deviation["val/r2"]]).all()
    (final,) = found.run.metrics.filter(pl.col("configuration").is_null()).to_dicts()
    assert (final["val/r2"], final["val/r2_sd"]) == (None, None)
    assert final["val/rmse"] == found.metrics["val/rmse"]


def test_a_target_of_probabilities_has_the_metrics_that_need_no_labels(ensemble):
    table = frame().drop("kind").with_columns(y=pl.col("y").rank() / 61)
    found = ensemble({**MLP, "loss": "bce"}, TabularData(table, "y"), members=2)
    assert list(found.members) == list(found.metrics) == ["val/loss", "val/brier"]
    assert found.ensemble.predict(frame(), spread=True).columns == ["y", "y_spread"]


def test_the_loss_of_rates_is_that_of_the_mean_rate(ensemble):
    table = frame().with_columns(y=(pl.col("y") - pl.col("y").min()).floor()).drop("kind")
    config = {**MLP, "optimizer": use("adam", lr=0.01), "loss": "poisson_nll"}
    data = TabularData(table, "y", batch_size=12)
    found = ensemble(config, data, members=2)
    data.prepare(found.ensemble.members[0].data_request())
    rows = data.frame_of("validation")
    rate, count = found.ensemble.predict(rows)["y"].to_numpy(), rows["y"].to_numpy()
    assert found.metrics["val/loss"] == pytest.approx(np.mean(rate - count * np.log(rate)), rel=1e-6)


def test_a_loss_with_several_predictions_of_a_target_has_metrics_and_no_loss(ensemble):
    found = ensemble({**MLP, "loss": use("quantile", quantiles=[0.1, 0.5, 0.9])}, regression(), members=2)
    assert "val/loss" not in found.metrics
    assert found.metrics["val/rmse"] > 0
    assert found.members["val/loss"][0] > 0
    assert found.ensemble.predict(frame(), spread=True).width == 6


# ---------------------------------------------------------------------- the run directory


def test_the_run_directory(ensemble, caplog):
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        found = ensemble(MLP, regression(), members=3)
    assert "training 3 models in 1 program" in caplog.text
    run = found.run
    assert run.path.parent.name == "fit_ensemble"
    assert run.config["ensemble"] == {"members": 3, "by": "seed", "seed": 0}
    assert run.outcome["name"] == "limit"
    assert "training 3 models in 1 program" in run.notes
    (final,) = run.metrics.filter(pl.col("configuration").is_null()).to_dicts()
    assert final["val/rmse"] == found.metrics["val/rmse"]
    assert (final["val/rmse_mean"], final["val/rmse_sd"]) == (found.mean["val/rmse"], found.deviation["val/rmse"])
    loaded = torchplug.load(run)
    assert isinstance(loaded, Ensemble)
    assert loaded.predict(frame(), spread=True).equals(found.ensemble.predict(frame(), spread=True))


def test_an_ensemble_is_compared_with_a_single_fit(ensemble, tmp_path):
    found = ensemble(MLP, regression(), members=3)
    single = torchplug.fit(MLP, regression(), trainer=TRAINER, tracking=OFF, root=tmp_path / "single")
    comparison = torchplug.compare([found.run, single.run])
    last = dict(zip(comparison.metrics["metric"], comparison.metrics[found.run.path.name], strict=True))
    assert last["val/rmse"] == found.metrics["val/rmse"]
    assert last["val/rmse_mean"] == found.mean["val/rmse"]
    assert "ensemble/members" in comparison.settings["setting"].to_list()
    assert comparison.draw(tmp_path / "c.png").is_file()


def test_by_folds_the_metrics_are_the_members(ensemble):
    found = ensemble(MLP, regression(), members=3, by="folds")
    assert found.metrics == {}
    assert len(found.members["val/rmse"]) == 3
    assert found.table.filter(metric="val/rmse")["members"][0] == pytest.approx(found.mean["val/rmse"])
    assert "each on the fold that it was not trained on" in found.line
    assert "val/rmse_mean" in found.run.metrics.columns


def test_without_validation_members_are_those_of_the_last_epoch(ensemble):
    found = ensemble(MLP, regression(split=[0.8, 0.0, 0.2]), members=2)
    assert (found.metrics, found.members) == ({}, {})
    assert found.line == "ensemble of 2: no rows validate"
    assert torchplug.load(found.run).predict(frame()).height == 60


def test_a_member_that_diverges_is_left_out(ensemble):
    # one far row makes batches with it diverge; the member whose fold it is does not see it
    table = frame().drop("kind").with_columns(a=pl.when(pl.int_range(60) == 7).then(1e3).otherwise("a"))
    config = {**LINEAR, "optimizer": use("sgd", lr=0.4)}
    data = TabularData(table, "y", batch_size=12, split=[1.0])
    trainer = {"max_epochs": 300, "accelerator": "cpu"}
    found = ensemble(config, data, members=3, by="folds", trainer=trainer)
    (kept,) = {0, 1, 2} - set(found.left_out)
    assert 7 in data.folds(3)[kept][1]
    assert len(found.ensemble.members) == 1
    notes = [note for note in found.run.notes if "is left out" in note]
    assert [note.split(" is left out: ")[0] for note in notes] == [f"member {number}" for number in found.left_out]
    with pytest.raises(ConfigurationError, match="one model has no spread"):
        found.ensemble.predict(frame(), spread=True)


def test_if_all_diverge_there_is_no_ensemble(ensemble, tmp_path):
    with pytest.raises(TrainingError, match="no member of the ensemble can be used; member 0: the gradient is NaN"):
        ensemble({**MLP, "optimizer": use("sgd", lr=1e30)}, regression(), members=2)
    (directory,) = (tmp_path / "runs" / "fit_ensemble").iterdir()
    assert not (directory / "checkpoints" / "ensemble.ckpt").exists()


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("config", "settings", "error", "reason"),
    [
        (MLP, {"members": 1}, ConfigurationError, "at least 2 members, not 1"),
        (MLP, {"members": 2.5}, ConfigurationError, "at least 2 members, not 2.5"),
        (MLP, {"by": "rows"}, ConfigurationError, "differ by one of seed, bootstrap, folds, not by rows"),
        (MLP, {"trainer": {"max_epochs": 0}}, ConfigurationError, "max_epochs must be a whole number of at least 1"),
        (MLP, {"trainer": {"fast_dev_run": True}}, ConfigurationError, "keeps nothing of it"),
        ({**MLP, "seed": 3}, {}, ConfigurationError, "give seed to fit_ensemble"),
        (LINEAR, {}, ConfigurationError, "linear starts at the same parameters from every seed: choose bootstrap"),
        ({**LINEAR, "optimizer": "closed_form"}, {}, ConfigurationError, "closed_form finds the one solution"),
        (MLP, {"trainer": {"accelerator": "cpu", "devices": 2}}, ConfigurationError, "in one process"),
        (MLP, {"tracking": {"moed": "disabled"}}, ConfigurationError, "no setting moed"),
        (MLP, {"by": "folds", "members": 49}, DataError, "49 folds of 48 rows"),
        (MLP, {"resume": "last"}, CheckpointError, "no run of fit_ensemble"),
        (MLP, {"by": "bootstrap", "seed": -1}, DataError, "seed must be a whole number of at least 0"),
        (MLP, {"seed": -1}, ConfigurationError, "seed is a whole number from 0"),
    ],
)
def test_refused_before_anything_is_written(ensemble, tmp_path, config, settings, error, reason):
    with pytest.raises(error, match=r"^[^\n]*$") as refused:
        ensemble(config, regression(), **settings)
    assert reason in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_the_runs_of_other_methods_are_not_gone_on_with(ensemble, tmp_path):
    folds = torchplug.cross_validate(MLP, regression(), folds=3, trainer=TRAINER, tracking=OFF, root=tmp_path / "cross")
    with pytest.raises(CheckpointError, match="keeps the last epoch of its models, not the best"):
        ensemble(MLP, regression(), members=3, by="folds", resume=folds.run.path)
    single = torchplug.fit(MLP, regression(), trainer=TRAINER, tracking=OFF, root=tmp_path / "single")
    with pytest.raises(CheckpointError, match="is no run of many models"):
        ensemble(MLP, regression(), resume=single.run.path)
    found = ensemble(MLP, regression(), members=3)
    with pytest.raises(CheckpointError, match="has 3 configurations, not 4"):
        ensemble(MLP, regression(), members=4, resume=found.run.path)
    with pytest.raises(CheckpointError, match="was trained with seed 0 in configuration 0, not 1"):
        ensemble(MLP, regression(), members=3, seed=1, resume=found.run.path)


# ---------------------------------------------------------------------- interrupted and resumed


@pytest.mark.parametrize("own", [{}, {"steps_per_execution": 2}], ids=["one program", "one by one"])
def test_an_interrupted_run_goes_on(ensemble, tmp_path, own):
    config, options = {**MLP, **own}, {"members": 3, "trainer": {**TRAINER, "max_epochs": 40}}
    whole = ensemble(config, regression(), root=tmp_path / "whole", **options)
    with interrupted_after(60, tmp_path / "runs"), pytest.raises(KeyboardInterrupt, match="go on with resume='"):
        ensemble(config, regression(), **options)
    resumed = ensemble(config, regression(), resume="last", **options)
    assert resumed.metrics == whole.metrics
    assert resumed.members == whole.members
    assert resumed.ensemble.predict(frame(), spread=True).equals(whole.ensemble.predict(frame(), spread=True))
    again = ensemble(config, regression(), resume=resumed.run.path, **options)
    assert again.metrics == whole.metrics
    assert again.run.metrics.equals(resumed.run.metrics), "the last row is not written twice"
