"""Verdicts on planted fits, and the optimum beside scikit-learn's."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression, QuantileRegressor, Ridge
from sklearn.metrics import mean_absolute_error

import torchplug
from torchplug import TabularData, use
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.workflow.diagnosis import verdicts
from torchplug.workflow.diagnosis.baselines import best_constant

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


def fitted(tmp_path, config, data, epochs):
    trainer = {**QUIET, "max_epochs": epochs}
    return torchplug.fit(config, data, trainer=trainer, tracking={"mode": "disabled"}, root=tmp_path).run


def table(n, features, target, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, features))
    y = target(X) + noise * rng.normal(size=n)
    return pl.DataFrame({**{f"x{j}": X[:, j] for j in range(features)}, "y": y})


def data_of(frame, **settings):
    return TabularData(frame, target="y", **{"batch_size": 32, **settings})


def training_rows(config, data):
    """Features, target and the loss as the fit has them."""
    module = torchplug.ComponentModule(**config)
    data.prepare(module.data_request())
    rows = data.rows_of("train").read(0, data.sizes["train"])
    return rows.features.numpy(), rows.target.numpy()


def linear(optimizer, **others):
    return {"model": use("linear"), "optimizer": optimizer, **others}


# ---------------------------------------------------------------- the optimum


def test_least_squares(tmp_path):
    config, data = linear(use("adam", lr=0.1)), TabularData("diabetes")
    run = fitted(tmp_path, config, data, 3)
    found = torchplug.diagnose(run)
    X, y = training_rows(config, data.copied())
    reference = LinearRegression().fit(X, y)
    residuals = y - reference.predict(X)
    assert found.objective["minimum"] == pytest.approx(np.mean(residuals**2), rel=1e-10)
    assert found.parts.noise_floor == pytest.approx(np.sum(residuals**2) / (len(y) - X.shape[1] - 1), rel=1e-8)
    assert found.models["constant"].train.loss == pytest.approx(np.var(y), rel=1e-10)


def test_a_penalty_is_part_of_the_objective(tmp_path):
    config, data = linear(use("sgd", lr=0.01), regularizers=[use("l2", coefficient=0.3)]), TabularData("diabetes")
    found = torchplug.diagnose(fitted(tmp_path, config, data, 2))
    X, y = training_rows(config, data.copied())
    ridge = Ridge(alpha=0.3 * len(y)).fit(X, y[:, 0])
    minimum = np.mean((y[:, 0] - ridge.predict(X)) ** 2) + 0.3 * np.sum(ridge.coef_**2)
    assert found.objective["minimum"] == pytest.approx(minimum, rel=1e-9)


def test_logistic_regression(tmp_path):
    coefficient = 1 / 682
    config = linear(use("adam", lr=0.01), loss=use("bce"), regularizers=[use("l2", coefficient=coefficient)])
    data = TabularData("breast_cancer")
    found = torchplug.diagnose(fitted(tmp_path, config, data, 2))
    X, y = training_rows(config, data.copied())
    reference = LogisticRegression(C=1 / (2 * coefficient * len(y)), tol=1e-12, max_iter=10_000).fit(X, y[:, 0])
    p = reference.predict_proba(X)[:, 1]
    cross_entropy = -np.mean(y[:, 0] * np.log(p) + (1 - y[:, 0]) * np.log(1 - p))
    minimum = cross_entropy + coefficient * np.sum(reference.coef_**2)
    assert found.objective["minimum"] == pytest.approx(minimum, abs=1e-6)
    assert found.models["optimum"].train.loss == pytest.approx(cross_entropy, abs=1e-5)


def test_least_absolute_deviations(tmp_path):
    config, data = linear(use("adam", lr=1.0), loss=use("l1")), TabularData("diabetes")
    found = torchplug.diagnose(fitted(tmp_path, config, data, 3))
    X, y = training_rows(config, data.copied())
    exact = QuantileRegressor(quantile=0.5, alpha=0.0, solver="highs").fit(X, y[:, 0])  # a linear program
    least = mean_absolute_error(y[:, 0], exact.predict(X))
    assert found.objective["minimum"] == pytest.approx(least, rel=1e-9)
    assert found.models["constant"].train.loss == pytest.approx(np.mean(np.abs(y - np.median(y))), rel=1e-6)


def test_a_lasso_by_subgradients_is_compared_with_the_proximal_minimum(tmp_path):
    penalties = {"regularizers": [use("l1", coefficient=2.0)]}
    subgradient = torchplug.diagnose(
        fitted(tmp_path, linear(use("adam", lr=1.0), **penalties), TabularData("diabetes"), 2)
    )
    proximal = {"regularizers": [use("l1", coefficient=2.0, proximal=True)]}
    exact = torchplug.diagnose(
        fitted(tmp_path, linear(use("proximal_newton"), **proximal), TabularData("diabetes"), 100)
    )
    assert exact.verdict == "good"
    assert exact.objective["model"] == pytest.approx(exact.objective["minimum"], rel=1e-9)
    assert subgradient.objective["minimum"] == pytest.approx(exact.objective["minimum"], rel=1e-9)


def test_other_models_have_a_bound(tmp_path):
    config = {"model": use("mlp", hidden=[4]), "optimizer": use("adam", lr=1e-3)}
    run = fitted(tmp_path, config, TabularData("diabetes"), 2)
    found = torchplug.diagnose(run, iterations=20)
    assert found.objective["bound"] < found.objective["model"]
    assert found.parts.noise_floor is None
    assert "bound" not in torchplug.diagnose(run, iterations=0).objective


def test_the_constant_of_classes_has_their_frequencies():
    data = TabularData("iris")
    module = torchplug.ComponentModule(use("linear"), "cross_entropy")
    data.prepare(module.data_request())
    counts = torch.bincount(torch.cat(list(data.rows_of("train").targets()))).double()
    scores = best_constant(module.loss, data, 3).scores
    torch.testing.assert_close(torch.softmax(scores, 0), counts / counts.sum(), atol=1e-6, rtol=0)


# ---------------------------------------------------------------- verdicts


def square(X):
    return X[:, 0] ** 2


def plane(X):
    return X[:, 0] - 0.5 * X[:, 1]


CASES = {
    "not converged": (linear(use("sgd", lr=1e-3)), data_of(table(300, 3, plane)), 3),
    "underfitting": (linear(use("closed_form")), data_of(table(300, 2, square)), 1),
    "overfitting": (
        {"model": use("mlp", hidden=[64]), "optimizer": use("adam", lr=1e-2)},
        data_of(table(400, 4, plane, noise=1.0), split=[0.3, 0.6, 0.1]),
        60,
    ),
    "too little data": (
        linear(use("closed_form")),
        data_of(table(500, 40, plane, noise=1.0), split=[0.1, 0.8, 0.1]),
        1,
    ),
    "good": (linear(use("closed_form")), data_of(table(300, 3, plane)), 1),
}


@pytest.mark.parametrize("verdict", CASES)
def test_planted_cases(tmp_path, verdict):
    config, data, epochs = CASES[verdict]
    found = torchplug.diagnose(fitted(tmp_path, config, data, epochs), data=data)
    assert found.verdict == verdict
    assert (not found.findings) == (verdict == "good")
    assert all(finding.remedies for finding in found.findings)


def test_a_target_decides(tmp_path):
    config, data, epochs = CASES["good"]
    run = fitted(tmp_path, config, data, epochs)
    assert torchplug.diagnose(run, data=data, target=0.2).verdict == "good"
    assert torchplug.diagnose(run, data=data, target=0.01).verdict == "underfitting"


def test_muted_codes(tmp_path):
    config, data, epochs = CASES["not converged"]
    run = fitted(tmp_path, config, data, epochs)
    found = torchplug.diagnose(run, data=data, ignore=["TPD001", "TPD002"])
    assert not {"TPD001", "TPD002"} & {finding.code for finding in found.findings}
    with pytest.raises(ConfigurationError, match="no code TPD9"):
        torchplug.diagnose(run, data=data, ignore=["TPD9"])


def test_the_parts_add_up_and_are_written(tmp_path):
    config, data, epochs = CASES["too little data"]
    run = fitted(tmp_path, config, data, epochs)
    found = torchplug.diagnose(run, data=data)
    parts, written = found.parts, json.loads((run.path / "diagnosis.json").read_text())
    total = parts.floor + parts.optimizer_gap + parts.generalization_gap
    assert total == pytest.approx(found.models["model"].validation.loss, rel=1e-12)
    assert written["verdict"] == "too little data"
    assert written["parts"]["floor"] == parts.floor
    assert written["models"]["model"]["val loss"] == found.models["model"].validation.loss


def test_the_test_split_has_no_influence(tmp_path):
    frame = table(200, 2, plane)
    config = linear(use("closed_form"))
    parts = ["train"] * 120 + ["validation"] * 40 + ["test"] * 40
    plain = []
    for name, factor in (("a", 1.0), ("b", -50.0)):
        sealed = pl.Series([1.0] * 160 + [factor] * 40)
        changed = frame.with_columns(pl.col(c) * sealed for c in ("x0", "y")).with_columns(part=pl.Series(parts))
        data = data_of(changed, split_column="part")
        plain.append(torchplug.diagnose(fitted(tmp_path / name, config, data, 1), data=data).plain())
    assert plain[0] == plain[1]


# ---------------------------------------------------------------- what is refused


def test_a_changed_table_is_refused(tmp_path):
    config, data, epochs = CASES["good"]
    run = fitted(tmp_path, config, data, epochs)
    with pytest.raises(ConfigurationError, match="the tables are not those"):
        torchplug.diagnose(run, data=data_of(table(301, 3, plane)))
    with pytest.raises(ConfigurationError, match="table in memory"):
        torchplug.diagnose(run)


def test_a_network_of_your_own_is_given(tmp_path):
    network = torch.nn.Linear(3, 1)
    data = data_of(table(300, 3, plane))
    config = {"model": network, "optimizer": use("adam", lr=0.05)}
    trainer = {**QUIET, "max_epochs": 20}
    result = torchplug.fit(config, data, trainer=trainer, tracking={"mode": "disabled"}, root=tmp_path)
    with pytest.raises(ConfigurationError, match="network of your own"):
        torchplug.diagnose(result.run, data=data)
    assert torchplug.diagnose(result.run, data=data, module=result.module).verdict == "good"


def test_many_models_are_refused(tmp_path):
    torchplug.fit_many(
        [linear("adam")], TabularData("diabetes"), trainer={**QUIET, "max_epochs": 1}, tracking={"mode": "disabled"},
        root=tmp_path,
    )  # fmt: skip
    with pytest.raises(CheckpointError, match="many models"):
        torchplug.diagnose(torchplug.runs(tmp_path)[-1])


@pytest.mark.parametrize("target", [0.0, -1.0, float("nan")])
def test_impossible_targets_are_refused(tmp_path, target):
    with pytest.raises(ConfigurationError, match="above 0"):
        torchplug.diagnose(tmp_path, target=target)


def test_without_the_plugin_a_note_says_so(tmp_path, monkeypatch):
    config, data, epochs = linear(use("adam", lr=0.1)), TabularData("diabetes"), 3
    run = fitted(tmp_path, config, data, epochs)
    monkeypatch.setattr("torchplug.workflow.diagnosis.api.SOLVERS", ("of_a_plugin_that_is_not_there",))
    found = torchplug.diagnose(run)
    assert "pip install torchplug-second-order" in found.notes[0]
    assert found.parts is None


def test_differences_are_judged_by_their_errors():
    difference = verdicts.Difference(1.0, 0.4)
    assert difference.is_above(0.9)
    assert not difference.is_above(1.1)
    assert not verdicts.Difference(1.0, 0.6).is_above(0.5)
