"""`cross_validate`, beside scikit-learn's."""

import logging
import math
import re

import numpy as np
import polars as pl
import pytest
import torchmetrics
from lightning.pytorch.callbacks import EarlyStopping
from scipy import optimize, special, stats
from sklearn import model_selection
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import torchplug
from many.interrupting import interrupted_after
from small_fits import classification, regression
from torchplug import TabularData, cross_validate, use
from torchplug.errors import CheckpointError, ConfigurationError, DataError
from torchplug.workflow import pictures
from torchplug.workflow.cross_validation.intervals import student_quantile

ADAM = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}
BCE = {**ADAM, "loss": "bce"}
OPTIONS = {"trainer": {"max_epochs": 3, "accelerator": "cpu"}, "tracking": {"mode": "disabled"}}


@pytest.fixture
def validated(tmp_path):
    def run(config, data, **settings):
        return cross_validate(config, data, **{**OPTIONS, "root": tmp_path / "runs", **settings})

    return run


def sklearn_scores(estimator, X, y, splitter, scoring):
    found = model_selection.cross_validate(estimator, X, y, cv=splitter, scoring=list(scoring))
    return {name: found[f"test_{name}"] for name in scoring}


# ---------------------------------------------------------------------- equal to scikit-learn, fold by fold


def check(found, expected):
    for ours, theirs in expected.items():
        np.testing.assert_allclose(found.folds[ours], theirs, rtol=1e-6, err_msg=ours)
        assert found.mean[ours] == pytest.approx(np.mean(theirs), rel=1e-6)


CLOSED = {"loss": "mse", "model": use("linear"), "optimizer": use("closed_form"), "reduction": "sum"}


@pytest.mark.parametrize("alpha", [None, 30.0])
def test_linear_regression(validated, alpha):
    X, y = load_diabetes(return_X_y=True)
    splitter = model_selection.KFold(5, shuffle=True, random_state=1)
    config = CLOSED if alpha is None else {**CLOSED, "regularizers": [use("l2", coefficient=alpha)]}
    found = validated(config, TabularData((X, y), split=[1.0]), folds=list(splitter.split(X)))
    scoring = ["neg_root_mean_squared_error", "neg_mean_absolute_error", "r2"]
    estimator = make_pipeline(StandardScaler(), LinearRegression() if alpha is None else Ridge(alpha))
    theirs = sklearn_scores(estimator, X, y, splitter, scoring)
    check(found, {"rmse": -theirs[scoring[0]], "mae": -theirs[scoring[1]], "r2": theirs["r2"]})
    predicted = model_selection.cross_val_predict(estimator, X, y, cv=splitter)
    assert found.predictions["row"].to_list() == list(range(1, 443))
    np.testing.assert_allclose(found.predictions["y"], predicted, rtol=1e-6)
    np.testing.assert_array_equal(found.predictions["actual_y"], y)


def test_logistic_regression(validated):
    X, y = load_breast_cancer(return_X_y=True)
    splitter = model_selection.StratifiedKFold(5)
    config = {
        "model": use("linear"),
        "loss": "bce",
        "optimizer": use("newton"),
        "regularizers": [use("l2", coefficient=0.5)],
        "reduction": "sum",
    }
    found = validated(
        config, TabularData((X, y), split=[1.0]), folds=list(splitter.split(X, y)), trainer={"max_epochs": 100}
    )
    assert {result.outcome.name for result in found.results} == {"converged"}
    scoring = ["neg_log_loss", "accuracy", "roc_auc", "neg_brier_score"]
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=1, tol=1e-12, solver="newton-cholesky"))
    theirs = sklearn_scores(estimator, X, y, splitter, scoring)
    signs = {"loss": -theirs["neg_log_loss"], "brier": -theirs["neg_brier_score"]}
    check(found, {**signs, "accuracy": theirs["accuracy"], "auroc": theirs["roc_auc"]})
    probabilities = model_selection.cross_val_predict(estimator, X, y, cv=splitter, method="predict_proba")
    np.testing.assert_allclose(found.predictions["probability_1"], probabilities[:, 1], atol=1e-6)


def test_multinomial_regression_on_our_own_folds(validated):
    X, y = load_iris(return_X_y=True)
    data = TabularData("iris")
    config = {
        "model": use("linear"),
        "loss": "cross_entropy",
        "optimizer": use("newton"),
        "regularizers": [use("l2", coefficient=0.5)],
        "reduction": "sum",
    }
    found = validated(config, data, folds=3, repeats=2, seed=4, trainer={"max_epochs": 100})
    folds = data.folds(3, repeats=2, seed=4)
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=1, tol=1e-12, solver="newton-cg", max_iter=1000))
    theirs = sklearn_scores(estimator, X, y, folds, ["neg_log_loss", "accuracy"])
    check(found, {"log_loss": -theirs["neg_log_loss"], "accuracy": theirs["accuracy"]})
    assert len(found.results) == 6
    counted = found.predictions.group_by("row").len()
    assert counted["len"].unique().to_list() == [2]
    assert set(counted["row"] - 1) == set(range(150)) - set(data.test_rows().tolist())


# ---------------------------------------------------------------------- mean and interval


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 14, 49])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_quantiles_of_students_distribution(degrees, level):
    assert student_quantile(level, degrees) == pytest.approx(stats.t.ppf((1 + level) / 2, degrees), rel=1e-9)


def test_intervals_are_corrected_for_training_rows_that_folds_share(validated):
    found = validated(ADAM, regression(split=[1.0]), folds=5)
    values = np.array(found.folds["rmse"])
    half = stats.t.ppf(0.975, 4) * math.sqrt((1 / 5 + 12 / 48) * values.var(ddof=1))
    assert found.mean["rmse"] == pytest.approx(values.mean(), rel=1e-12)
    assert found.interval["rmse"] == pytest.approx((values.mean() - half, values.mean() + half), rel=1e-9)


def test_a_single_fold_has_no_interval(validated):
    found = validated(ADAM, regression(split=[1.0]), folds=[(range(40), range(40, 60))])
    assert found.mean["rmse"] == found.folds["rmse"][0]
    assert all(math.isnan(end) for end in found.interval["rmse"])
    assert found.table["low"].null_count() == found.table.height


def test_metrics_are_those_of_the_end_of_training_whatever_is_validated_on_the_way(validated):
    rare = validated(ADAM, regression(), folds=3, trainer={"max_epochs": 5, "check_val_every_n_epoch": 4})
    always = validated(ADAM, regression(), folds=3, trainer={"max_epochs": 5})
    assert rare.folds["rmse"] == pytest.approx(always.folds["rmse"], rel=1e-5)


# ---------------------------------------------------------------------- what is written


def test_the_run_directory(validated):
    found = validated(BCE, classification(), folds=3)
    run = found.run
    assert run.path.parent.name == "cross_validate"
    assert run.outcome["name"] == "limit"
    assert run.config["cross_validate"] == {"folds": 3, "repeats": 1, "seed": 0}
    table = pl.read_csv(run.path / "folds.csv")
    assert table.equals(found.table)
    (accuracy,) = table.filter(metric="accuracy").to_dicts()
    assert [accuracy[f"fold_{fold}"] for fold in range(3)] == found.folds["accuracy"]
    assert (accuracy["low"], accuracy["high"]) == found.interval["accuracy"]
    assert pl.read_csv(run.path / "out_of_fold.csv").equals(found.predictions)
    assert (run.path / "out_of_fold.png").read_bytes().startswith(b"\x89PNG")
    assert set(run.metrics["fold"]) == {0, 1, 2}
    labels = found.predictions.filter(fold=1)
    task = torchmetrics.functional.accuracy
    right = [labels[name].replace_strict({"high": 0, "low": 1}).to_torch() for name in ("kind", "actual_kind")]
    assert float(task(*right, task="binary")) == pytest.approx(found.folds["accuracy"][1], rel=1e-6)


def test_the_ensemble_predicts_from_the_run(validated):
    data = classification()
    found = validated(BCE, data, folds=3)
    frame = pl.DataFrame({"a": [0.1, -0.5], "b": [4.0, 12.0], "c": [100.0, 100.2]})
    parts = [result.module.predict(frame) for result in found.results]
    expected = np.mean([part["probability_low"].to_numpy() for part in parts], axis=0)
    predicted = torchplug.load(found.run).predict(frame)
    np.testing.assert_allclose(predicted["probability_low"], expected, rtol=1e-12)
    assert predicted["kind"].to_list() == ["low" if share > 0.5 else "high" for share in expected]
    assert predicted.equals(found.ensemble.predict(frame))


def test_intervals_of_the_ensemble_are_by_out_of_fold_residuals(validated):
    found = validated(ADAM, regression(split=[0.8, 0.0, 0.2]), folds=4)
    errors = np.sort(np.abs(found.predictions["y"] - found.predictions["actual_y"]))
    half = errors[math.ceil(0.9 * (len(errors) + 1)) - 1]
    rows = pl.DataFrame({"a": [0.1, -0.5], "b": [4.0, 12.0], "c": [100.0, 100.2]})
    for model in (found.ensemble, torchplug.load(found.run), found.results[1].module):
        table = model.predict(rows, interval=0.9)
        np.testing.assert_allclose(table["y_upper"] - table["y"], [half, half], rtol=1e-5)
    assert torchplug.load(found.run).predict(rows, interval=0.9).equals(found.ensemble.predict(rows, interval=0.9))


def test_of_repeats_a_row_has_the_residual_of_its_mean_prediction(validated):
    found = validated(ADAM, regression(), folds=3, repeats=2)
    mean = found.predictions.group_by("row").mean()
    errors = np.sort(np.abs(mean["y"] - mean["actual_y"]))
    assert found.calibration.residuals.rows == len(mean) == len(found.predictions) / 2
    half = errors[math.ceil(0.5 * (len(errors) + 1)) - 1]
    np.testing.assert_allclose(found.calibration.residuals.half_widths(0.5), half, rtol=1e-5)


def test_no_fold_is_scaled_by_a_temperature_of_its_own_rows(validated):
    """Metrics and out-of-fold predictions are those of scores as they are; the ensemble has one T by all rows."""
    plain = validated(BCE, classification(), folds=3)
    scaled = validated({**BCE, "calibrate": True}, classification(), folds=3)
    assert scaled.folds == plain.folds
    assert scaled.predictions.equals(plain.predictions)
    seen, kind = plain.predictions["probability_low"].to_numpy(), plain.predictions["actual_kind"].to_numpy()
    temperature = scaled.calibration.temperature

    most = (len(seen) + 1) / (len(seen) + 2)  # the probability of a true class

    def loss(T):
        p = special.expit(special.logit(seen) / T)
        low, high = np.log(p), np.log(1 - p)
        return -np.mean(np.where(kind == "low", most * low + (1 - most) * high, most * high + (1 - most) * low))

    best = optimize.minimize_scalar(loss, bounds=(0.01, 20), method="bounded", options={"xatol": 1e-9}).x
    assert temperature.value == pytest.approx(best, rel=1e-4)
    for model in (*scaled.ensemble.members, *torchplug.load(scaled.run).members):
        assert model.temperature == temperature.value
    assert torchplug.load(plain.run).members[0].temperature == 1.0


def test_without_matplotlib_a_note_says_how_to_have_the_picture(validated, monkeypatch):
    monkeypatch.setattr(pictures, "available", lambda: False)
    run = validated(ADAM, regression(), folds=2).run
    assert pictures.INSTALL in run.notes
    assert (run.path / "out_of_fold.csv").is_file()
    assert not (run.path / "out_of_fold.png").exists()


def test_a_note_says_that_early_stopping_watches_the_fold(validated):
    trainer = {"max_epochs": 3, "callbacks": [EarlyStopping("val/loss")]}
    assert "optimistic" in "\n".join(validated(ADAM, regression(), folds=2, trainer=trainer).run.notes)
    assert "optimistic" not in "\n".join(validated(ADAM, regression(), folds=2).run.notes)


def test_models_of_one_structure_are_one_program(validated):
    assert "training 4 models in 1 program" in validated(ADAM, regression(), folds=4).run.notes


def test_a_fold_whose_training_stalls_does_not_end_the_others(validated):
    found = validated({**ADAM, "optimizer": use("sgd", lr=1e30)}, regression(), folds=2)
    assert found.stalled == [0, 1]
    assert any(note.startswith("fold 1: ") for note in found.run.notes)


# ---------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("config", "settings", "error", "reason"),
    [
        ({**ADAM, "seed": 3}, {}, ConfigurationError, "give seed to cross_validate"),
        (ADAM, {"folds": 1}, DataError, "at least 2"),
        (ADAM, {"folds": [(range(5), range(5, 8))], "repeats": 2}, DataError, "leave it out"),
        (ADAM, {"folds": [(range(60), [])]}, DataError, "fold 0 has no row to validate"),
        (ADAM, {"folds": [(range(40), range(40, 60))]}, DataError, "which belongs to the test split"),
        (ADAM, {"tracking": {"moed": "disabled"}}, ConfigurationError, "no setting moed"),
        (ADAM, {"trainer": {"max_epoch": 3}}, ConfigurationError, "max_epoch"),
        (ADAM, {"trainer": {"accelerator": "cpu", "devices": 2}}, ConfigurationError, "in one process"),
        (ADAM, {"resume": "last"}, CheckpointError, "no run of cross_validate"),
    ],
)
def test_refused_before_anything_is_written(validated, tmp_path, config, settings, error, reason):
    data = regression(split=[0.8, 0.2] if "no row" in reason else [0.6, 0.2, 0.2])
    with pytest.raises(error, match=r"^[^\n]*$") as refused:
        validated(config, data, **settings)
    assert reason in str(refused.value)
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------- interrupted and resumed


@pytest.mark.parametrize("config", [ADAM, {**ADAM, "steps_per_execution": 2}], ids=["one program", "one by one"])
def test_an_interrupted_run_goes_on(validated, tmp_path, config):
    options = {"folds": 3, "trainer": {"max_epochs": 40, "accelerator": "cpu"}}
    whole = validated(config, regression(), root=tmp_path / "whole", **options)
    with interrupted_after(60, tmp_path / "runs"), pytest.raises(KeyboardInterrupt, match="go on with resume='"):
        validated(config, regression(), **options)
    (directory,) = (tmp_path / "runs" / "cross_validate").iterdir()
    assert not (directory / "folds.csv").exists()
    resumed = validated(config, regression(), resume="last", **options)
    assert resumed.run.path == directory
    assert resumed.folds == whole.folds
    assert resumed.predictions.equals(whole.predictions)
    again = validated(config, regression(), resume=directory, **options)
    assert again.folds == whole.folds


def test_other_folds_are_not_gone_on_with(validated):
    run = validated(ADAM, regression(), folds=3).run
    with pytest.raises(CheckpointError, match="other folds"):
        validated(ADAM, regression(), folds=4, resume=run.path)


@pytest.mark.parametrize("config", [ADAM, {**ADAM, "steps_per_execution": 2}], ids=["one program", "one by one"])
def test_notes_are_ours_and_not_lightnings(validated, caplog, config):
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):
        validated(config, regression(), folds=2)
    assert "training 2 models" in caplog.text
    assert not re.search("available|tip|stopped", caplog.text, re.IGNORECASE)
