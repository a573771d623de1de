import io

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from preprocessing_fits import fit
from torchplug.errors import CheckpointError, DataError
from torchplug.preprocessing import Preprocessing
from torchplug.preprocessing.target import TargetCoding
from torchplug.registry.component import TargetInfo
from torchplug.tables import as_frame


@pytest.fixture
def table():
    generator = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "size": generator.normal(50, 20, 40),
            "rooms": generator.integers(1, 6, 40),
            "garden": generator.random(40) < 0.5,
            "town": np.array(["Aarau", "Bern", "Chur", "Davos"])[generator.integers(0, 4, 40)],
            "price": generator.normal(1e5, 2e4, 40),
        }
    )


def test_numbers_are_standardized_like_scikit_learns(table):
    numbers = table.select("size", "rooms", "garden", "price")
    ours = fit(numbers, "price").features(numbers).numpy()
    raw = numbers.drop("price").with_columns(pl.all().cast(pl.Float64)).to_numpy()
    np.testing.assert_allclose(ours, StandardScaler().fit_transform(raw), rtol=0, atol=1e-13)
    assert ours.dtype == np.float64


@pytest.mark.parametrize(("reference", "drop"), [(False, None), (True, "first")])
def test_categories_are_coded_like_scikit_learns(table, reference, drop):
    towns = table.select("town", "price")
    fitted = fit(towns, "price", reference=reference, scale="none")
    encoder = OneHotEncoder(drop=drop, sparse_output=False)
    np.testing.assert_array_equal(
        fitted.features(towns).numpy(), encoder.fit_transform(towns.select("town").to_numpy())
    )
    assert fitted.feature_names == [f"town={level}" for level in encoder.categories_[0][1 if drop else 0 :]]
    scaled = fit(towns, "price", reference=reference).features(towns)
    theirs = StandardScaler().fit_transform(encoder.transform(towns.select("town").to_numpy()))
    np.testing.assert_allclose(scaled.numpy(), theirs, atol=1e-13)


def test_the_features_of_each_category_are_known(table):
    marked = table.with_columns(pl.when(pl.col("rooms") > 1).then("town").alias("town"), street=pl.col("town") + " 1")
    fitted = fit(marked.select("size", "town", "rooms", "street", "price"), "price")
    names = fitted.feature_names
    assert [names[first:stop] for first, stop in fitted.category_ranges] == [
        [f"town={town}" for town in ("Aarau", "Bern", "Chur", "Davos")],
        [f"street={town} 1" for town in ("Aarau", "Bern", "Chur", "Davos")],
    ]
    assert "town=missing" in names


def test_without_center_values_are_scaled_and_not_shifted(table):
    fitted = fit(table, "price", center=False, standardize_target=True)
    assert not fitted.scaling.center.any()
    assert not fitted.target_center.any()
    raw = table.select("size").to_numpy()
    theirs = StandardScaler(with_mean=False).fit_transform(raw)
    np.testing.assert_allclose(fitted.features(table)[:, :1].numpy(), theirs, rtol=1e-13)


def test_target_is_standardized_and_restored(table):
    fitted = fit(table, "price", standardize_target=True)
    target = fitted.target(table)
    price = table["price"].to_numpy()
    np.testing.assert_allclose(target[:, 0].numpy(), (price - price.mean()) / price.std(), atol=1e-13)
    np.testing.assert_allclose(fitted.original_units(target)[:, 0].numpy(), price, rtol=1e-13)
    assert fitted.decode(target, ["price"]).columns == ["price"]
    decoded = fitted.decode(fitted.original_units(target), ["price"])
    np.testing.assert_allclose(decoded["price"].to_numpy(), price, rtol=1e-13)


def test_several_predictions_per_target_are_restored_side_by_side():
    info = TargetInfo(("a", "b"))
    center, scale = torch.tensor([10.0, 0.0]).double(), torch.tensor([2.0, 3.0]).double()
    coding = TargetCoding("regression", info, center, scale)
    # two quantiles of a, then two of b
    restored = coding.original_units(torch.ones(1, 4, dtype=torch.float64))
    assert restored.tolist() == [[12.0, 12.0, 3.0, 3.0]]
    assert coding.output_names(4) == ["a[0]", "a[1]", "b[0]", "b[1]"]


def test_constant_columns_stay_and_stay_silent():
    frame = pl.DataFrame({"a": [1.0, 2.0, 4.0], "b": [0.1, 0.1, 0.1], "y": [1.0, 2.0, 3.0]})
    fitted = fit(frame, "y")
    assert fitted.feature_names == ["a", "b"]
    assert fitted.scaling.scale[1] == 1
    assert fitted.scaling.zero_variance.tolist() == [False, True]
    # a weight on b was never trained, so another value of b must not move a prediction
    assert fitted.features(frame.with_columns(b=pl.lit(7.0)))[:, 1].tolist() == [0, 0, 0]
    assert fit(frame, "y", center=False).features(frame)[:, 1].tolist() == [0.1] * 3


@pytest.mark.parametrize("unit", [1e-200, 1.0, 1e200])
def test_standardization_keeps_to_the_range_of_float64(unit):
    frame = pl.DataFrame({"a": np.array([1.0, 2.0, 4.0]) * unit, "y": [1.0, 2.0, 3.0]})
    expected = StandardScaler().fit_transform(np.array([[1.0], [2.0], [4.0]]))
    np.testing.assert_allclose(fit(frame, "y").features(frame).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("size", ["1", "wide", "3"], r"column 'size' has text \('wide' in row 2\)"),
        ("size", [1.0, 2.0, float("inf")], "column 'size' has 1 infinite value, first in row 3"),
        ("size", [[1], [2], [3]], "column 'size' has type List"),
    ],
)
def test_columns_of_another_type_are_refused(table, column, values, message):
    with pytest.raises(DataError, match=message):
        fit(table, "price").features(table.head(3).with_columns(pl.Series(column, values)))


def test_numbers_as_text_and_codes_as_numbers_are_understood():
    frame = pl.DataFrame({"a": [1.0, 2.0, 3.0], "code": ["1", "2", "x"], "y": [1.0, 2.0, 4.0]})
    fitted = fit(frame, "y", scale="none", handle_unknown="ignore")
    new = pl.DataFrame({"a": ["1.5"], "code": [2]})
    assert fitted.features(new).tolist() == [[1.5, 0.0, 1.0, 0.0]]


def test_columns_go_by_name_and_arrays_by_position(table):
    numbers = table.select("size", "rooms", "price")
    fitted = fit(numbers, "price")
    expected = fitted.features(numbers)
    assert torch.equal(fitted.features(numbers.select("price", "rooms", "size")), expected)
    assert torch.equal(fitted.features(as_frame(numbers.select("size", "rooms").to_numpy())), expected)
    with pytest.raises(DataError, match="has 3 columns, and the model wants 2: size, rooms"):
        fitted.features(as_frame(numbers.to_numpy()))
    with pytest.raises(DataError, match=r"has no column rooms; did you mean room\?"):
        fitted.features(numbers.rename({"rooms": "room"}))


def test_state_survives_a_file(table):
    gaps = table.with_columns(rooms=pl.when(pl.col("rooms") == 1).then(None).otherwise(pl.col("rooms")))
    fitted = fit(gaps, "price", standardize_target=True, reference=True, max_categories=3)
    file = io.BytesIO()
    torch.save(fitted.state(), file)
    file.seek(0)
    restored = Preprocessing.from_state(torch.load(file, weights_only=True))
    assert restored == fitted
    assert torch.equal(restored.features(gaps), fitted.features(gaps))
    assert torch.equal(restored.target(gaps), fitted.target(gaps))
    assert restored.feature_names == ["size", "rooms", "rooms=missing", "garden", *restored.feature_names[4:]]
    assert restored != fit(gaps, "price", reference=True, max_categories=3)


def test_a_damaged_state_is_refused(table):
    state = fit(table, "price").state()
    del state["scaling"]["scale"]
    with pytest.raises(CheckpointError, match="preprocessing cannot be read"):
        Preprocessing.from_state(state)


def test_predictions_are_clipped_to_the_range_of_each_target():
    info, limits = TargetInfo(("a", "b")), torch.tensor([[-1.0, 0.0], [2.0, 5.0]]).double()
    coding = TargetCoding("regression", info, torch.zeros(2).double(), torch.ones(2).double(), limits)
    values = torch.tensor([[-3.0, -3.0], [1.0, 1.0], [9.0, 9.0]]).double()
    assert coding.clipped(values).tolist() == [[-1.0, 0.0], [1.0, 1.0], [2.0, 5.0]]
    # a mean and a standard deviation of each: the deviation is no location
    pairs = coding.clipped(torch.full((1, 4), 9.0).double(), ("location", "scale"))
    assert pairs.tolist() == [[2.0, 9.0, 5.0, 9.0]]
    assert TargetCoding.from_state(coding.state()).clipped(values).equal(coding.clipped(values))
