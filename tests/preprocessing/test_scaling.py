"""Robust and quantile scaling, as scikit-learn's transformers and the published formulas give them."""

import io
from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer, RobustScaler, StandardScaler

from preprocessing_fits import fit
from torchplug.errors import CheckpointError
from torchplug.preprocessing import Preprocessing
from torchplug.preprocessing.scaling import Scaling

SCALES = ["standard", "robust", "quantile", "none"]


def clipped(u):
    return u / np.sqrt(1 + (u / 3) ** 2)


def published(train, new):
    """Robust scaling as Holzmüller et al. (2024) define it, of one column."""
    low, median, high = np.quantile(train, [0.25, 0.5, 0.75])
    half = (train.max() - train.min()) / 2
    factor = 1 / (high - low) if high > low else 1 / half if half > 0 else 0.0
    return clipped(factor * (new - median))


def normal(n):
    return QuantileTransformer(output_distribution="normal", n_quantiles=min(1000, n), subsample=None)


def numbers(n, seed=0):
    """Columns of many shapes, and later rows within and beyond what they hold."""
    rng = np.random.default_rng(seed)
    columns = {
        "normal": rng.normal(50, 20, n),
        "heavy": rng.standard_cauchy(n),
        "skewed": np.exp(3 * rng.normal(size=n)),
        "ties": rng.permutation(np.arange(n) % 5).astype(float),
        "zeros": np.append(np.maximum(0.0, rng.normal(size=n - 2) - 0.5), [1.0, 2.0]),
        "large": 1e9 + rng.normal(size=n),
    }
    beyond = np.array([1.0, 1e9])
    later = {
        name: np.concatenate([v[:9], v[:9] + 1e-3, v.min() - beyond, v.max() + beyond]) for name, v in columns.items()
    }
    return pl.DataFrame({**columns, "y": rng.normal(size=n)}), pl.DataFrame(later)


@pytest.mark.parametrize("n", [30, 1000, 1500])
def test_robust_is_scikit_learns_scaler_with_a_smooth_clip(n):
    train, later = (frame.drop("zeros") for frame in numbers(n))
    theirs, fitted = RobustScaler().fit(train.drop("y").to_numpy()), fit(train, scale="robust")
    for frame in (train.drop("y"), later):
        found = fitted.features(frame).numpy()
        np.testing.assert_allclose(found, clipped(theirs.transform(frame.to_numpy())), rtol=1e-12, atol=1e-12)
        assert np.abs(found).max() <= 3.0


@pytest.mark.parametrize("n", [5, 6, 30, 999, 1000, 1001, 2500])
def test_quantile_is_scikit_learns_transformer(n):
    train, later = numbers(n)
    theirs, fitted = normal(n).fit(train.drop("y").to_numpy()), fit(train, scale="quantile")
    for frame in (train.drop("y"), later):
        found, expected = fitted.features(frame).numpy(), theirs.transform(frame.to_numpy())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert fitted.features(later).abs().max() > 5.19


def test_without_an_interquartile_range_robust_divides_by_half_the_range():
    train = pl.DataFrame({"x": [2.0] * 8 + [7.0, -1.0], "flat": [4.0] * 10, "y": np.arange(10.0)})
    later = pl.DataFrame({"x": [2.0, 6.0, -2.0, 1e9], "flat": [4.0, 5.0, -1e9, 0.0]})
    expected = [clipped(u) for u in (0.0, 1.0, -1.0, 1e9 / 4)]
    found = fit(train, scale="robust").features(later).numpy()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-8)
    assert (found[:, 1] == 0).all()


@pytest.mark.parametrize(("scale", "scaler"), [("robust", RobustScaler), ("quantile", lambda: normal(400))])
def test_imputed_values_count_as_values(scale, scaler):
    rng = np.random.default_rng(1)
    values = np.where(rng.uniform(size=400) < 0.2, np.nan, rng.normal(size=400))
    train = pl.DataFrame({"x": values, "y": rng.normal(size=400)})
    theirs = make_pipeline(SimpleImputer(strategy="median"), scaler()).fit(values[:, None])
    later = np.array([[np.nan], [0.1], [-9.0]])
    for raw in (values[:, None], later):
        expected = theirs.transform(raw)[:, 0]
        found = fit(train, scale=scale).features(pl.DataFrame({"x": raw[:, 0]})).numpy()
        expected = clipped(expected) if scale == "robust" else expected
        np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-12)
        flag = np.isnan(raw[:, 0]).astype(float)
        whole = np.isnan(values).astype(float)
        by_rule = published(whole, flag) if scale == "robust" else (flag - whole.mean()) / whole.std()
        np.testing.assert_allclose(found[:, 1], by_rule, rtol=1e-12)


@pytest.mark.parametrize("n", [9, 10, 11, 12, 400])
def test_the_features_of_categories_have_the_published_scale_or_the_standard_one(n):
    rng = np.random.default_rng(n)
    towns = rng.choice(list("aaabbbbbbbbcccd"), n)
    towns[:2] = "a"
    train = pl.DataFrame({"town": towns, "y": rng.normal(size=n)})
    options = {"handle_unknown": "ignore"}
    coded = OneHotEncoder(sparse_output=False).fit_transform(towns[:, None])
    robust = np.column_stack([published(column, column) for column in coded.T])
    np.testing.assert_allclose(fit(train, scale="robust", **options).features(train).numpy(), robust, rtol=1e-14)
    found = fit(train, scale="quantile", **options).features(train).numpy()
    np.testing.assert_allclose(found, StandardScaler().fit_transform(coded), rtol=1e-12, atol=1e-14)


def test_numbers_of_two_values_and_cycles_are_standardized_where_others_have_quantiles():
    n = 90
    rng = np.random.default_rng(2)
    columns = {"flag": rng.random(n) < 0.3, "two": np.where(rng.random(n) < 0.5, -7.0, 3.0), "flat": np.full(n, 2.0)}
    days = [date(2024, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 900, n)]
    train = pl.DataFrame({**columns, "d": days, "x": rng.normal(size=n), "y": rng.normal(size=n)})
    found, standard = (fit(train, scale=scale, dates="cyclic") for scale in ("quantile", "standard"))
    assert found.feature_names[3:] == ["d=year_sin", "d=year_cos", "d=week_sin", "d=week_cos", "x"]
    assert torch.equal(found.features(train)[:, :-1], standard.features(train)[:, :-1])
    assert found.scaling.mapped.tolist() == [7]


@pytest.mark.parametrize("dates", ["number", "cyclic"])
def test_dates_have_quartiles_of_their_features(dates):
    rng = np.random.default_rng(3)
    days = [date(2020, 1, 1) + timedelta(days=int(day)) for day in rng.integers(0, 3000, 80)]
    train = pl.DataFrame({"d": [None, *days[1:]], "y": rng.normal(size=80)})
    options = {"dates": dates, "impute": "median"}
    raw = fit(train, scale="none", **options).features(train).numpy()
    expected = np.column_stack([published(column, column) for column in raw.T])
    np.testing.assert_allclose(fit(train, scale="robust", **options).features(train).numpy(), expected, atol=1e-12)
    if dates == "number":
        found = fit(train, scale="quantile", **options).features(train).numpy()
        np.testing.assert_allclose(found, normal(80).fit_transform(raw), rtol=0, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-300, 1e-9, 1e9, 1e300])
@pytest.mark.parametrize("scale", ["robust", "quantile"])
def test_the_unit_of_a_column_has_no_effect(scale, unit):
    x = np.random.default_rng(4).normal(size=200)
    found, expected = (
        fit(frame, scale=scale).features(frame)
        for frame in (pl.DataFrame({"x": x * u, "y": np.arange(200.0)}) for u in (unit, 1.0))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


EXTREMES = {
    "one far value": [1e300, 1.0, 2.0, 3.0, 4.0],
    "both ends": [-1e300, 1e300, 0.0, 1.0, 2.0],
    "the largest numbers": [-1.7e308, 1.7e308, -1.6e308, 1.6e308, 0.0],
    "the smallest numbers": [5e-324, 1e-323, 1.5e-323, 2e-323, 0.0],
    "constant": [3.0] * 5,
    "nearly constant": [3.0] * 4 + [4.0],
    "one value": [None, None, None, None, 2.0],
    "no value": [None] * 5,
}


@pytest.mark.parametrize("scale", ["robust", "quantile"])
@pytest.mark.parametrize("case", EXTREMES)
def test_five_rows_of_extremes_have_bounded_features(scale, case):
    frame = pl.DataFrame({"x": pl.Series(EXTREMES[case], dtype=pl.Float64), "y": np.arange(5.0)})
    fitted = fit(frame, scale=scale)
    later = pl.DataFrame({"x": [-1.7e308, -1e300, 0.0, 1e300, 1.7e308, None]})
    if case == "nearly constant" and scale == "quantile":  # of two values: standardized, without bounds
        later = later.with_columns(pl.col("x").clip(3.0, 4.0))
    for rows in (frame, later):
        found = fitted.features(rows)
        assert found.isfinite().all()
        assert found.abs().max() <= (3.0 if scale == "robust" else 5.2)
    assert (fitted.features(later)[:5, 0].diff() >= 0).all()


@pytest.mark.parametrize("scale", SCALES)
def test_a_scaling_survives_a_file_bit_for_bit(scale):
    train, later = numbers(50)
    train = train.with_columns(heavy=pl.when(pl.int_range(50) % 7 == 0).then(None).otherwise("heavy"))
    fitted, file = fit(train, scale=scale), io.BytesIO()
    torch.save(fitted.state(), file)
    file.seek(0)
    restored = Preprocessing.from_state(torch.load(file, weights_only=True))
    assert restored == fitted
    assert torch.equal(restored.features(later), fitted.features(later))
    assert all(restored != fit(train, scale=other) for other in SCALES if other != scale)


@pytest.mark.parametrize(
    ("scale", "damage"),
    [
        ("standard", {"method": "minmax"}),
        ("standard", {"method": "quantile", "mapped": torch.tensor([0])}),
        ("standard", {"center": torch.zeros(3).double()}),
        ("standard", {"scale": torch.tensor([1.0] * 5 + [float("nan")]).double()}),
        ("robust", {"mapped": torch.tensor([0]), "quantiles": torch.zeros(1, 50).double()}),
        ("quantile", {"mapped": torch.tensor([0, 1, 2, 3, 4, 6])}),
        ("quantile", {"mapped": torch.tensor([1, 0, 2, 3, 4, 5])}),
        ("quantile", {"mapped": torch.tensor([0, 0, 2, 3, 4, 5])}),
        ("quantile", {"mapped": torch.arange(6).double()}),
        ("quantile", {"quantiles": torch.zeros(5, 50).double()}),
        ("quantile", {"quantiles": torch.zeros(6, 0).double()}),
        ("quantile", {"quantiles": -torch.arange(300).double().view(6, 50)}),
        ("quantile", {"quantiles": torch.full((6, 50), float("inf")).double()}),
        ("quantile", {"quantiles": [[0.0] * 50] * 6}),
    ],
)
def test_a_scaling_whose_parts_do_not_go_together_is_refused(scale, damage):
    state = fit(numbers(50)[0], scale=scale).state()
    state["scaling"] |= damage
    with pytest.raises(CheckpointError, match="preprocessing cannot be read"):
        Preprocessing.from_state(state)


def test_only_affine_scalings_have_coefficients_of_the_columns_themselves():
    names = ["a", "b"]
    tensors = [torch.tensor([1.0, 0.0]).double(), torch.tensor([2.0, 1.0]).double(), torch.zeros(2).bool()]
    empty = [torch.zeros(0).long(), torch.zeros(0, 0).double()]
    ranked = [torch.tensor([1]), torch.arange(3.0).double()[None]]
    assert Scaling("standard", *tensors, *empty).coefficient_names(names) == names
    assert Scaling("robust", *tensors, *empty).coefficient_names(names) == ["robust(a)", "robust(b)"]
    assert Scaling("quantile", *tensors, *ranked).coefficient_names(names) == ["a", "quantile(b)"]
