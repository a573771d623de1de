"""`path`, beside scikit-learn's estimators that choose λ by cross-validation."""

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import ElasticNet, Lasso, LogisticRegression, Ridge, RidgeCV, enet_path
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

import torchplug
from torchplug import TabularData, use
from torchplug.errors import ConfigurationError, DataError
from torchplug.workflow import pictures

LASSO = {"model": "linear", "loss": "mse", "regularizers": [use("l1", proximal=True)], "optimizer": "proximal_newton"}
RIDGE = {"model": "linear", "loss": "mse", "regularizers": [use("l2")], "optimizer": "closed_form"}
LOGISTIC = {"model": "linear", "loss": "bce", "regularizers": [use("l2")], "optimizer": "newton"}


@pytest.fixture
def path(tmp_path):
    def run(config, data, **settings):
        given = {"tracking": {"mode": "disabled"}, "root": tmp_path / "runs", **settings}
        return torchplug.path(config, data, **given)

    return run


def folds_of(X, k=4):
    return list(KFold(k, shuffle=True, random_state=1).split(X))


def errors(estimate, X, y, folds, metric=mean_squared_error):
    """Of estimators that take all of λ one by one, fold by fold: (folds, λ)."""
    found = []
    for training, validation in folds:
        scaler = StandardScaler().fit(X[training])
        inside, outside = scaler.transform(X[training]), scaler.transform(X[validation])
        found.append([metric(y[validation], predicted) for predicted in estimate(inside, y[training], outside)])
    return np.array(found)


def by_fold(found):
    return found.table.select("^fold_.*$").to_numpy().T


def fits(make, grid):
    return lambda X, y, new: [make(value, len(y)).fit(X, y).predict(new) for value in grid]


# ---------------------------------------------------------------------- equal to scikit-learn, fold by fold


def test_lasso():
    """Its alpha is λ/2."""
    X, y = load_diabetes(return_X_y=True)
    folds, grid = folds_of(X), np.geomspace(100.0, 0.01, 12)
    config = {"coefficient": "log(0.01,100)", "points": 12, "folds": folds, "tracking": {"mode": "disabled"}}
    found = torchplug.path(LASSO, TabularData((X, y), split=[1.0]), **config)
    expected = errors(fits(lambda v, n: Lasso(v / 2, tol=1e-12, max_iter=100_000), grid), X, y, folds)
    np.testing.assert_allclose(found.table["coefficient"], grid, rtol=1e-12)
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)
    np.testing.assert_allclose(found.table["mean"], expected.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.table["standard_error"], expected.std(axis=0, ddof=1) / 2, rtol=1e-5)


def test_elastic_net_keeps_its_ratio(path):
    """With l1 : l2 = 3 : 1 and λ their sum, alpha·l1_ratio = 3λ/8 and alpha·(1 − l1_ratio) = λ/4."""
    X, y = load_diabetes(return_X_y=True)
    folds, grid = folds_of(X), [10.0, 1.0, 0.1]
    config = {**LASSO, "regularizers": [use("elastic_net", l1=0.3, l2=0.1, proximal=True)]}
    found = path(config, TabularData((X, y), split=[1.0]), coefficient=grid[::-1], folds=folds)

    def make(value, n):
        return ElasticNet(0.375 * value + 0.25 * value, l1_ratio=0.375 / 0.625, tol=1e-13, max_iter=100_000)

    np.testing.assert_allclose(by_fold(found), errors(fits(make, grid), X, y, folds), rtol=1e-6)
    written = yaml.safe_load((found.run.path / "best.yaml").read_text())
    parameters = written["model"]["regularizers"][0]["init_args"]
    assert parameters["l1"] == pytest.approx(3 * parameters["l2"])
    assert parameters["l1"] + parameters["l2"] == pytest.approx(found.best)


def test_ridge(path):
    """Its alpha is nλ."""
    X, y = load_diabetes(return_X_y=True)
    folds, grid = folds_of(X), np.geomspace(10.0, 1e-4, 8)
    found = path(RIDGE, TabularData((X, y), split=[1.0]), coefficient="log(1e-4,10)", points=8, folds=folds)
    np.testing.assert_allclose(by_fold(found), errors(fits(lambda v, n: Ridge(n * v), grid), X, y, folds), rtol=1e-6)


@pytest.mark.parametrize("metric", ["loss", "accuracy"])
def test_logistic_regression(path, metric):
    """Its C is 1/(2nλ)."""
    X, y = load_breast_cancer(return_X_y=True)
    folds, grid = folds_of(X), np.geomspace(1.0, 1e-5, 10)
    options = {"coefficient": "log(1e-5,1)", "points": 10, "folds": folds, "metric": metric}
    found = path(LOGISTIC, TabularData((X, y), split=[1.0]), **options)

    def estimate(inside, target, outside):
        models = [LogisticRegression(C=1 / (2 * len(target) * v), tol=1e-10, solver="newton-cholesky") for v in grid]
        fitted = [model.fit(inside, target) for model in models]
        return [m.predict(outside) if metric == "accuracy" else m.predict_proba(outside)[:, 1] for m in fitted]

    score = accuracy_score if metric == "accuracy" else log_loss
    np.testing.assert_allclose(by_fold(found), errors(estimate, X, y, folds, score), rtol=1e-6)
    assert found.direction == ("max" if metric == "accuracy" else "min")


def test_separable_classes_without_intercept(path):
    """Far along the path the minimum lies far out, where Newton's batches are short."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((200, 3))
    y = (X[:, 0] > 0).astype(int)
    folds, grid = folds_of(X, 2), np.geomspace(1.0, 1e-7, 8)
    config = {**LOGISTIC, "model": use("linear", bias=False)}
    data = TabularData((X, y), split=[1.0], scale="none")
    found = path(config, data, coefficient="log(1e-7,1)", points=8, folds=folds)
    expected = []
    for training, validation in folds:
        n = len(training)
        models = [LogisticRegression(C=1 / (2 * n * v), fit_intercept=False, tol=1e-13, max_iter=100_000) for v in grid]
        fitted = [model.fit(X[training], y[training]) for model in models]
        expected.append([log_loss(y[validation], model.predict_proba(X[validation])[:, 1]) for model in fitted])
    np.testing.assert_allclose(by_fold(found), expected, rtol=2e-5)


def test_other_models_go_from_minimum_to_minimum_by_the_optimizer(path):
    """Softmax with l1 has no closed form: each λ by the configuration's own optimizer."""
    config = {**LASSO, "loss": "cross_entropy", "regularizers": [use("l1", proximal=True)]}
    data = TabularData("iris", split=[1.0])
    folds = folds_of(np.zeros(150), 3)
    found = path(config, data, coefficient=[0.1, 0.01], folds=folds)
    assert "by proximal_newton, from λ to λ" in found.run.notes[0]
    for place, value in enumerate([0.1, 0.01]):
        own = {**config, "regularizers": [use("l1", proximal=True, coefficient=value)]}
        options = {"trainer": {"max_epochs": 200, "accelerator": "cpu"}, "folds": folds}
        fitted = torchplug.cross_validate(own, data, tracking={"mode": "disabled"}, root=found.run.root, **options)
        np.testing.assert_allclose(by_fold(found)[:, place], fitted.folds["loss"], rtol=1e-6)


def test_networks_and_penalties_of_others_by_the_optimizer(path):
    config = {"model": use("mlp", hidden=[3]), "loss": "mse", "regularizers": [use("l2")], "optimizer": "newton"}
    data = TabularData("diabetes", split=[1.0])
    found = path(config, data, coefficient=[1.0, 0.1], folds=folds_of(np.zeros(442), 2), trainer={"max_epochs": 300})
    assert found.coefficients is None
    assert "nonzero" not in found.table.columns
    assert found.table["mean"].is_finite().all()


def test_minibatches_are_trained_by_fit_many(path):
    X, y = load_diabetes(return_X_y=True)
    folds = folds_of(X, 2)
    config = {"model": "linear", "loss": "mse", "optimizer": use("adam", lr=0.1), "regularizers": [use("l2")]}
    data, trainer = TabularData((X, y), split=[1.0], batch_size=64), {"max_epochs": 2, "accelerator": "cpu"}
    found = path(config, data, coefficient=[1.0, 0.1], folds=folds, trainer=trainer, metric="rmse")
    configs = [{**config, "regularizers": [use("l2", coefficient=v)]} for v in (1.0, 0.1)]
    results = torchplug.fit_many(configs, data, folds, trainer)
    expected = np.array([result.metrics["val/rmse"] for result in results]).reshape(2, 2).T
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-9)
    assert "adam uses minibatches: each λ is trained from its seed" in found.run.notes


# ---------------------------------------------------------------------- preprocessing is each fold's own


def test_weighted_lasso(path):
    """Weights have mean 1 in each fold, and do not enter means and deviations of features."""
    X, y = load_diabetes(return_X_y=True)
    X = X * np.geomspace(1.0, 1e3, X.shape[1]) + 100.0
    w = np.random.default_rng(0).uniform(0.1, 3.0, len(y))
    frame = pl.DataFrame({**{f"x{j}": X[:, j] for j in range(X.shape[1])}, "y": y, "w": w})
    folds, grid = folds_of(X), np.geomspace(100.0, 0.1, 6)
    data = TabularData(frame, "y", weights="w", split=[1.0])
    found = path(LASSO, data, coefficient=list(grid), folds=folds)
    expected = []
    for training, validation in folds:
        scaler = StandardScaler().fit(X[training])
        inside, outside = scaler.transform(X[training]), scaler.transform(X[validation])
        models = [Lasso(value / 2, tol=1e-12, max_iter=100_000) for value in grid]
        predicted = [model.fit(inside, y[training], w[training]).predict(outside) for model in models]
        expected.append([mean_squared_error(y[validation], own, sample_weight=w[validation]) for own in predicted])
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)


@pytest.mark.parametrize("config", [LASSO, RIDGE])
def test_columns_that_are_constant_in_a_fold(path, config):
    """Such a column counts for nothing in the rows that validate, either."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((60, 4))
    X[:, 1], X[:, 3] = 3.0, np.where(np.arange(60) < 20, generator.standard_normal(60), 5.0)
    y = X @ [1.0, 0.0, 2.0, 1.0] + generator.standard_normal(60)
    folds, grid = list(KFold(3).split(X)), [1.0, 0.1]
    data = TabularData((X, y), split=[1.0])
    found = path(config, data, coefficient=grid, folds=folds)
    expected = []
    for training, validation in folds:
        varies = X[training].std(axis=0) > 0
        make = (lambda v, n: Lasso(v / 2, tol=1e-13)) if config is LASSO else (lambda v, n: Ridge(n * v))
        expected.append(errors(fits(make, grid), X[:, varies], y, [(training, validation)])[0])
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)


@pytest.mark.parametrize("config", [RIDGE, LOGISTIC])
def test_gaps_are_filled_by_the_median_of_the_rows_that_train(path, config):
    X, y = load_breast_cancer(return_X_y=True) if config is LOGISTIC else load_diabetes(return_X_y=True)
    X = X[:, :4].copy()
    X[np.random.default_rng(0).random(X.shape) < 0.2] = np.nan
    folds, grid = folds_of(X, 3), [0.1, 0.01]
    found = path(config, TabularData((X, y), split=[1.0], impute="median"), coefficient=grid, folds=folds)
    for number, (training, validation) in enumerate(folds):
        filled = np.where(np.isnan(X), np.nanmedian(X[training], axis=0), X)
        if config is RIDGE:
            expected = errors(fits(lambda v, n: Ridge(n * v), grid), filled, y, [(training, validation)])[0]
        else:
            expected = logistic_losses(filled, y, training, validation, grid)
        np.testing.assert_allclose(by_fold(found)[number], expected, rtol=1e-6)


def logistic_losses(X, y, training, validation, grid):
    scaler, n = StandardScaler().fit(X[training]), len(training)
    inside, outside = scaler.transform(X[training]), scaler.transform(X[validation])
    models = [LogisticRegression(C=1 / (2 * n * v), tol=1e-10, solver="newton-cholesky") for v in grid]
    fitted = [model.fit(inside, y[training]) for model in models]
    return [log_loss(y[validation], model.predict_proba(outside)[:, 1]) for model in fitted]


def test_folds_along_time(path):
    """Each validates what comes after its training rows, so that rows train in some folds only."""
    X, y = load_breast_cancer(return_X_y=True)
    frame = pl.DataFrame({**{f"x{j}": X[:, j] for j in range(8)}, "y": y, "t": np.arange(len(y))})
    grid = [1.0, 0.01]
    data = TabularData(frame, "y", time="t", split=[1.0])
    found = path(LOGISTIC, data, coefficient=grid, folds=3)
    folds = data.folds(3)
    assert len(found.table.select("^fold_.*$").columns) == len(folds) == 3
    expected = [logistic_losses(X[:, :8], y, *fold, grid) for fold in folds]
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)


def test_folds_of_any_rows(path):
    """Rows that are drawn for each fold by itself have more parts than there are folds."""
    X, y = load_diabetes(return_X_y=True)
    folds, grid = list(ShuffleSplit(4, test_size=0.3, random_state=0).split(X)), [10.0, 0.1]
    found = path(LASSO, TabularData((X, y), split=[1.0]), coefficient=grid, folds=folds)
    expected = errors(fits(lambda v, n: Lasso(v / 2, tol=1e-12, max_iter=100_000), grid), X, y, folds)
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)


def test_folds_with_other_categories_than_all_rows(path):
    """A level that only one fold validates has no feature there."""
    X, y = load_breast_cancer(return_X_y=True)
    letters = np.array(["a", "b"])[(X[:, 1] > 20).astype(int)]
    letters[:3] = "rare"
    frame = pl.DataFrame({"x": X[:, 0], "c": letters, "y": y})
    folds = [(np.arange(200, 569), np.arange(200)), (np.arange(300), np.arange(300, 569))]
    data = TabularData(frame, "y", split=[1.0], encode="onehot", scale="none", handle_unknown="ignore")
    found = path(LOGISTIC, data, coefficient=[0.1, 0.01], folds=folds)
    for number, (training, validation) in enumerate(folds):
        levels = sorted(set(letters[training]))
        design = np.column_stack([X[:, 0], *(letters == level for level in levels)]).astype(float)
        n, expected = len(training), []
        for value in (0.1, 0.01):
            model = LogisticRegression(C=1 / (2 * n * value), tol=1e-10, solver="newton-cholesky")
            predicted = model.fit(design[training], y[training]).predict_proba(design[validation])[:, 1]
            expected.append(log_loss(y[validation], predicted))
        np.testing.assert_allclose(by_fold(found)[number], expected, rtol=1e-6)


def test_categories_are_each_folds_own(path):
    """A level that no row that trains has shares no feature with others."""
    X, y = load_diabetes(return_X_y=True)
    letters = np.array(list("abc"))[np.digitize(X[:, 2], [-0.02, 0.03])]
    frame = pl.DataFrame({"x": X[:, 3], "c": letters, "y": y})
    folds, grid = folds_of(X, 3), [1.0, 0.01]
    data = TabularData(frame, "y", split=[1.0], encode="onehot", scale="none")
    found = path(RIDGE, data, coefficient=grid, folds=folds)
    design = np.column_stack([X[:, 3], *(letters == letter for letter in "abc")]).astype(float)
    expected = []
    for training, validation in folds:
        models = [Ridge(len(training) * value).fit(design[training], y[training]) for value in grid]
        expected.append([mean_squared_error(y[validation], model.predict(design[validation])) for model in models])
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)


@pytest.mark.parametrize("scale", ["robust", "quantile"])
def test_ranks_are_each_folds_own(path, scale):
    """Which no mean and deviation of other rows gives."""
    X, y = load_diabetes(return_X_y=True)
    X, folds, grid = X[:, 2:], folds_of(X, 3), [1.0, 0.01]
    found = path(RIDGE, TabularData((X, y), split=[1.0], scale=scale), coefficient=grid, folds=folds)
    expected = []
    for training, validation in folds:
        n = len(training)
        quantiles = QuantileTransformer(output_distribution="normal", n_quantiles=n, subsample=None)
        scaler = (RobustScaler() if scale == "robust" else quantiles).fit(X[training])
        clip = (lambda u: u / np.sqrt(1 + (u / 3) ** 2)) if scale == "robust" else (lambda u: u)
        inside, outside = clip(scaler.transform(X[training])), clip(scaler.transform(X[validation]))
        models = [Ridge(n * value).fit(inside, y[training]) for value in grid]
        expected.append([mean_squared_error(y[validation], model.predict(outside)) for model in models])
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)
    assert found.coefficients.columns == ["coefficient", "(intercept)", *(f"{scale}(x{j})" for j in range(8))]


# ---------------------------------------------------------------------- without refitting


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_leave_one_out_equals_refits(path, bias, weighted):
    """Each row by the minimum of F over the others, whose weights have mean 1, with the features of all rows."""
    generator = np.random.default_rng(3)
    n, grid = 25, [1.0, 0.1, 0.0]
    X = generator.standard_normal((n, 4))
    y = X @ [1.0, -2.0, 0.0, 3.0] + 5.0 + generator.standard_normal(n)
    w = generator.uniform(0.2, 3.0, n) if weighted else np.ones(n)
    frame = pl.DataFrame({**{f"x{j}": X[:, j] for j in range(4)}, "y": y, "w": w})
    columns = {"weights": "w"} if weighted else {"exclude": ["w"]}
    data = TabularData(frame, "y", split=[1.0], scale="standard" if bias else "none", **columns)
    config = {**RIDGE, "model": use("linear", bias=bias)}
    found = path(config, data, coefficient=grid, folds="loo")
    scaled = (X - X.mean(axis=0)) / X.std(axis=0) if bias else X
    design = np.column_stack([scaled, np.ones(n)]) if bias else scaled
    penalized = np.array([1.0] * 4 + [0.0] * bias)
    w = w / w.mean()
    for place, value in enumerate(grid):
        losses = []
        for row in range(n):
            kept = np.arange(n) != row
            own = w[kept] / w[kept].mean()
            matrix = (design[kept].T * own) @ design[kept] / (n - 1) + value * np.diag(penalized)
            theta = np.linalg.solve(matrix, (design[kept].T * own) @ y[kept] / (n - 1))
            losses.append(w[row] * (y[row] - design[row] @ theta) ** 2)
        assert found.table["mean"][place] == pytest.approx(np.mean(losses), rel=1e-9)
        assert found.table["standard_error"][place] == pytest.approx(np.std(losses, ddof=1) / n**0.5, rel=1e-9)
        root = np.sqrt(w)[:, None]
        whole = root * design
        hat = whole @ np.linalg.solve(whole.T @ whole + n * value * np.diag(penalized), whole.T)
        residual = (root[:, 0] * y) - hat @ (root[:, 0] * y)
        expected = np.mean(residual**2) / (1 - np.trace(hat) / n) ** 2
        assert found.table["generalized"][place] == pytest.approx(expected, rel=1e-9)


def test_leave_one_out_is_that_of_ridgecv(path):
    """Leaving out a row leaves n − 1 in F, so that alpha is (n − 1)λ."""
    X, y = load_diabetes(return_X_y=True)
    grid = [1.0, 0.1, 0.01]
    found = path(RIDGE, TabularData((X, y), split=[1.0]), coefficient=grid, folds=folds_of(X))
    theirs = RidgeCV([(len(y) - 1) * value for value in grid], store_cv_results=True)
    theirs.fit(StandardScaler().fit_transform(X), y)
    np.testing.assert_allclose(found.table["leave_one_out"], theirs.cv_results_.mean(axis=0), rtol=1e-9)


# ---------------------------------------------------------------------- coefficients, choices and files


def test_coefficients_along_lambda(path):
    X, y = load_diabetes(return_X_y=True)
    grid = [10.0, 1.0]
    found = path(LASSO, TabularData((X, y), split=[1.0]), coefficient=grid, folds=folds_of(X))
    scaler = StandardScaler().fit(X)
    _, expected, _ = enet_path(
        scaler.transform(X), y - y.mean(), l1_ratio=1.0, alphas=[value / 2 for value in grid], tol=1e-13, max_iter=10**6
    )
    slopes = found.coefficients.select(pl.exclude("coefficient", "(intercept)")).to_numpy()
    np.testing.assert_allclose(slopes, (expected / scaler.scale_[:, None]).T, rtol=1e-6, atol=1e-9)
    assert found.table["nonzero"].to_list() == [int((own != 0).sum()) for own in expected.T]


def test_choices_and_files(path):
    X, y = load_diabetes(return_X_y=True)
    found = path(LASSO, TabularData((X, y), split=[1.0]), coefficient="log(0.01,200)", points=15, folds=folds_of(X))
    rows = found.table.to_dicts()
    best = min(rows, key=lambda row: row["mean"])
    within = [row["coefficient"] for row in rows if row["mean"] <= best["mean"] + best["standard_error"]]
    assert (found.best, found.best_1se) == (best["coefficient"], max(within))
    assert found.best < found.best_1se
    directory = found.run.path
    assert pl.read_csv(directory / "path.csv").equals(found.table.with_columns(pl.col("nonzero").cast(pl.Int64)))
    assert pl.read_csv(directory / "coefficients.csv").equals(found.coefficients)
    assert (directory / "path.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for name, value in (("best.yaml", found.best), ("best_1se.yaml", found.best_1se)):
        (penalty,) = yaml.safe_load((directory / name).read_text())["model"]["regularizers"]
        assert penalty["init_args"] == {"proximal": True, "coefficient": value}
    assert found.run.outcome["best"] == found.best


def test_without_matplotlib_a_note_says_so(path, monkeypatch):
    monkeypatch.setattr(pictures, "available", lambda: False)
    found = path(RIDGE, TabularData("diabetes"), coefficient=[1.0, 0.1], folds=3)
    assert pictures.INSTALL in found.run.notes
    assert not (found.run.path / "path.png").exists()


def test_equal_features_share_a_coefficient_or_one_has_it(path):
    """The lasso's minimum is not unique: F is, and so are predictions."""
    X, y = load_diabetes(return_X_y=True)
    doubled = np.column_stack([X, X[:, 2]])
    folds = folds_of(X, 2)
    found = path(LASSO, TabularData((doubled, y), split=[1.0]), coefficient=[5.0, 1.0], folds=folds)
    plain = path(LASSO, TabularData((X, y), split=[1.0]), coefficient=[5.0, 1.0], folds=folds)
    np.testing.assert_allclose(by_fold(found), by_fold(plain), rtol=1e-6)


def test_the_test_split_is_sealed(path):
    X, y = load_diabetes(return_X_y=True)
    data = TabularData((X, y))
    kept = np.setdiff1d(np.arange(len(y)), data.test_rows())
    changed = y.copy()
    changed[data.test_rows()] = 1000.0
    first = path(RIDGE, data, coefficient=[1.0, 0.1], folds=3)
    second = path(RIDGE, TabularData((X, changed)), coefficient=[1.0, 0.1], folds=3)
    assert first.table.equals(second.table)
    assert first.coefficients.equals(second.coefficients)
    with pytest.raises(DataError, match="belongs to the test split"):
        path(RIDGE, data, coefficient=[1.0, 0.1], folds=[(kept, data.test_rows()), (kept[:9], kept[9:])])


def test_the_model_and_the_generators_are_left_alone(path):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    path(RIDGE, TabularData("diabetes"), coefficient=[1.0, 0.1], folds=3)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"coefficient": "log(1,1e-6)"}, "reversed or empty"),
        ({"coefficient": "log(0,1)"}, "starts above 0"),
        ({"coefficient": "lag(1,2)"}, "give a range such as"),
        ({"coefficient": "log(a,b)"}, "give a range such as"),
        ({"coefficient": [1.0]}, "fewer than two"),
        ({"coefficient": [1.0, -1.0]}, "at least 0"),
        ({"coefficient": [1.0, float("nan")]}, "at least 0"),
        ({"points": 1}, "at least 2"),
        ({"regularizer": 1}, "regularizer is 1"),
        ({"metric": "rsme"}, "choose among loss"),
    ],
)
def test_what_is_refused(path, settings, reason, tmp_path):
    with pytest.raises(ConfigurationError, match=reason):
        path(RIDGE, TabularData("diabetes"), **settings)
    assert not (tmp_path / "runs").exists()


def test_penalties_that_are_refused(path):
    data = TabularData("diabetes")
    with pytest.raises(ConfigurationError, match="no penalty"):
        path({**RIDGE, "regularizers": []}, data)
    with pytest.raises(ConfigurationError, match=r"2 penalties: choose a regularizer, 0 \(l2\), 1 \(l2\)"):
        path({**RIDGE, "regularizers": ["l2", "l2"]}, data)
    with pytest.raises(ConfigurationError, match="folds loo is exact for ridge"):
        path(LASSO, data, folds="loo")
    with pytest.raises(DataError, match="folds must be"):
        path(RIDGE, data, folds=1)


def test_one_of_two_penalties_varies(path):
    """The other stays: Σ λ acts on the slopes."""
    X, y = load_diabetes(return_X_y=True)
    folds, grid = folds_of(X, 2), [1.0, 0.1]
    config = {**RIDGE, "regularizers": [use("l2", coefficient=0.5), use("l2")]}
    found = path(config, TabularData((X, y), split=[1.0]), coefficient=grid, folds=folds, regularizer=1)
    expected = errors(fits(lambda v, n: Ridge(n * (v + 0.5)), grid), X, y, folds)
    np.testing.assert_allclose(by_fold(found), expected, rtol=1e-6)
