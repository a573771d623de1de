"""Coefficients in original units against least squares on the raw table."""

import numpy as np
import polars
import pytest
import torch
from scipy import stats
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import QuantileTransformer, RobustScaler
from torch import nn

from preprocessing_fits import fit
from small_fits import frame, trainer
from torchplug import ComponentModule, TabularData, use
from torchplug.components.models import Linear
from torchplug.errors import ConfigurationError
from torchplug.evaluation.coefficients import coefficient_table, original_coefficients, original_map

INFERENCE = ["standard_error", "t", "p", "lower_95", "upper_95"]
COMPARED = ["coefficient", *INFERENCE, "r_squared"]


def ordinary(X, y, weight=None):
    """What `COMPARED` names by the textbook's formulas; X with its column of ones."""
    W = np.ones(len(X)) if weight is None else weight / weight.mean()
    A, b = X * np.sqrt(W)[:, None], y * np.sqrt(W)
    beta = np.linalg.lstsq(A, b, rcond=None)[0]
    freedom = len(X) - X.shape[1]
    error = np.sqrt(((b - A @ beta) ** 2).sum() / freedom * np.diag(np.linalg.inv(A.T @ A)))
    around = y - np.average(y, weights=W)
    r_squared = 1 - (W * (y - X @ beta) ** 2).sum() / (W * around**2).sum()
    interval = stats.t.interval(0.95, freedom, beta, error)
    return beta, error, beta / error, 2 * stats.t.sf(np.abs(beta / error), freedom), *interval, r_squared


def fitted(tmp_path, table, target, model=None, **settings):
    module = ComponentModule(model or use("linear"), "mse", "closed_form")
    data = TabularData(table, target=target, split=[1.0], batch_size="full", **settings)
    trainer(tmp_path).fit(module, data)
    return module


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("standardize_target", [False, True])
@pytest.mark.parametrize("scale", ["none", "standard"])
def test_the_table_is_that_of_the_raw_columns(tmp_path, scale, standardize_target, weighted):
    table = frame().drop("kind").with_columns(z=3 - 2 * polars.col("y") + polars.col("a") ** 2)
    weight = np.linspace(0.5, 2, table.height)
    settings = {"scale": scale, "standardize_target": standardize_target}
    if weighted:
        table, settings["weights"] = table.with_columns(w=weight), "w"
    result = fitted(tmp_path, table, ["y", "z"], **settings).coefficient_table()
    X = np.column_stack([np.ones(table.height), table.select("a", "b", "c").to_numpy()])
    assert result.columns == ["output", "feature", "coefficient", *INFERENCE, "r_squared"]
    for output in ("y", "z"):
        rows = result.filter(polars.col("output") == output)
        assert rows["feature"].to_list() == ["(intercept)", "a", "b", "c"]
        expected = ordinary(X, table[output].to_numpy(), weight if weighted else None)
        for name, values in zip(COMPARED, expected, strict=True):
            np.testing.assert_allclose(rows[name].to_numpy(), values, rtol=1e-6, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("standardize_target", [False, True])
@pytest.mark.parametrize("scale", ["robust", "quantile"])
def test_after_another_scaling_than_an_affine_one_it_is_that_of_the_scaled_features(
    tmp_path, scale, standardize_target
):
    table = frame().drop("kind").with_columns(flag=polars.Series(["no", "yes", "no"] * 20))
    module = fitted(tmp_path, table, "y", scale=scale, standardize_target=standardize_target)
    result, raw = module.coefficient_table(), table.select("a", "b", "c").to_numpy()
    flag = (table["flag"] == "yes").to_numpy().astype(float)
    if scale == "robust":
        u = np.column_stack([RobustScaler().fit_transform(raw), flag])  # of 0 and 1 the interquartile range is 1
        scaled, last = u / np.sqrt(1 + (u / 3) ** 2), "robust(flag=yes)"
    else:
        transformer = QuantileTransformer(output_distribution="normal", n_quantiles=table.height)
        scaled, last = np.column_stack([transformer.fit_transform(raw), flag]), "flag=yes"
    names = [f"{scale}({name})" for name in "abc"]
    assert result["feature"].to_list() == ["(intercept)", *names, last]
    X = np.column_stack([np.ones(table.height), scaled])
    for name, values in zip(COMPARED, ordinary(X, table["y"].to_numpy()), strict=True):
        np.testing.assert_allclose(result[name].to_numpy(), values, rtol=1e-6, atol=1e-12, err_msg=name)
    predictions = X @ result["coefficient"].to_numpy()
    np.testing.assert_allclose(module.predict(table)["y"].to_numpy(), predictions, rtol=1e-6)


def test_without_a_bias_there_is_no_intercept(tmp_path):
    table = frame().drop("kind")
    result = fitted(tmp_path, table, "y", use("linear", bias=False)).coefficient_table()
    assert result["feature"].to_list() == ["a", "b", "c"]
    X, y = table.select("a", "b", "c").to_numpy(), table["y"].to_numpy()
    beta, error, t, p, *_ = ordinary(X, y)
    for name, values in {"coefficient": beta, "standard_error": error, "t": t, "p": p}.items():
        np.testing.assert_allclose(result[name].to_numpy(), values, rtol=1e-6, atol=1e-12)


def test_penalized_and_first_order_fits_have_no_standard_errors(tmp_path):
    for optimizer, penalties in (("closed_form", [use("l2")]), ("sgd", [])):
        module = ComponentModule(use("linear"), "mse", optimizer, penalties)
        trainer(tmp_path, max_epochs=1).fit(module, TabularData(frame().drop("kind"), target="y", batch_size="full"))
        assert module.coefficient_table().columns == ["output", "feature", "coefficient"]


def test_only_fitted_linear_models_have_coefficients():
    for network, preprocessing in ((nn.Linear(2, 1), None), (nn.Sequential(), object())):
        with pytest.raises(ConfigurationError, match="only a fitted linear model"):
            original_coefficients(network, preprocessing)
        with pytest.raises(ConfigurationError, match="only a fitted linear model"):
            coefficient_table(network, preprocessing, None, [])


def test_the_map_to_original_units_reproduces_the_coefficients(tmp_path):
    module = fitted(tmp_path, frame().drop("kind"), "y")
    linear = module.network.map
    trained = torch.cat([linear.bias[None], linear.weight.mT]).detach()
    mapped = original_map(module.preprocessing, intercept=True) @ trained
    np.testing.assert_allclose(mapped.squeeze().numpy(), [value for _, _, value in module.coefficients()], rtol=1e-12)


# ---------------------------------------------------------------------- original units, of categories too


@pytest.fixture
def houses():
    generator = np.random.default_rng(0)
    return polars.DataFrame(
        {
            "size": generator.normal(50, 20, 40),
            "rooms": generator.integers(1, 6, 40),
            "garden": generator.random(40) < 0.5,
            "town": np.array(["Aarau", "Bern", "Chur", "Davos"])[generator.integers(0, 4, 40)],
            "price": generator.normal(1e5, 2e4, 40),
        }
    )


def linear(weight, bias=None):
    """A linear model with these coefficients."""
    weight = np.atleast_2d(weight)
    model = Linear(weight.shape[1], len(weight), bias is not None).double()
    for parameter, values in zip(model.parameters(), (weight, bias), strict=False):
        parameter.data = torch.as_tensor(np.array(values)).reshape(parameter.shape)
    return model


@pytest.mark.parametrize("standardize_target", [True, False])
@pytest.mark.parametrize("scale", ["standard", "none"])
def test_coefficients_in_original_units_are_scikit_learns(houses, scale, standardize_target):
    fitted = fit(houses, "price", reference=True, scale=scale, standardize_target=standardize_target)
    X, y = fitted.features(houses).numpy(), fitted.target(houses).numpy()
    inner = LinearRegression().fit(X, y)
    rows = original_coefficients(linear(inner.coef_, inner.intercept_), fitted)
    raw = np.column_stack(
        [houses.select("size", "rooms").to_numpy(), houses["garden"].to_numpy()]
        + [(houses["town"] == town).to_numpy() for town in ("Bern", "Chur", "Davos")]
    )
    outer = LinearRegression().fit(raw, houses["price"].to_numpy())
    assert [row[:2] for row in rows[:2]] == [("price", "(intercept)"), ("price", "size")]
    np.testing.assert_allclose([row[2] for row in rows], [outer.intercept_, *outer.coef_], rtol=1e-9)


def test_coefficients_without_bias_have_no_intercept(houses):
    numbers = houses.select("size", "rooms", "price")
    fitted = fit(numbers, "price", center=False, standardize_target=True)
    inner = LinearRegression(fit_intercept=False).fit(fitted.features(numbers).numpy(), fitted.target(numbers).numpy())
    outer = LinearRegression(fit_intercept=False).fit(numbers.drop("price").to_numpy(), numbers["price"].to_numpy())
    rows = original_coefficients(linear(inner.coef_), fitted)
    assert [row[:2] for row in rows] == [("price", "size"), ("price", "rooms")]
    np.testing.assert_allclose([row[2] for row in rows], outer.coef_, rtol=1e-10)


def test_coefficients_of_classes_are_named_after_them():
    frame = polars.DataFrame({"a": [1.0, 2.0, 4.0], "y": ["u", "v", "w"]})
    rows = original_coefficients(linear(np.ones((3, 1)), np.zeros(3)), fit(frame, "y", "multiclass"))
    assert [row[:2] for row in rows][::2] == [("u", "(intercept)"), ("v", "(intercept)"), ("w", "(intercept)")]
    two = polars.DataFrame({"a": [1.0, 2.0, 4.0], "y": ["u", "v", "v"]})
    assert original_coefficients(linear(np.ones((1, 1))), fit(two, "y", "binary"))[0][0] == "v"
