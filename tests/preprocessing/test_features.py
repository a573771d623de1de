"""Missing values, rare, many and unknown categories, as scikit-learn encodes them."""

import numpy as np
import polars as pl
import pytest
from sklearn.compose import make_column_transformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from preprocessing_fits import fit
from torchplug.errors import DataError
from torchplug.preprocessing import Preprocessing, Substitutions, column_fit

N = 300


@pytest.fixture
def gaps():
    """Numbers, truth values and categories, each with gaps but one; towns from frequent to rare, some only once."""
    rng = np.random.default_rng(3)
    shares = 1.0 / np.arange(1, 61) ** 1.5
    towns = np.array([f"t{i:02d}" for i in range(60)], dtype=object)[rng.choice(60, N, p=shares / shares.sum())]
    numbers = rng.normal(size=(N, 3)) * [1.0, 1e6, 1e-6] + [0.0, 1e7, 0.0]
    whole = rng.integers(0, 9, N).astype(float)
    numbers[rng.uniform(size=N) < 0.2, 0] = np.nan
    numbers[rng.uniform(size=N) < 0.5, 1] = np.nan
    whole[rng.uniform(size=N) < 0.1] = np.nan
    towns[rng.uniform(size=N) < 0.15] = None
    columns = {"a": numbers[:, 0], "b": numbers[:, 1], "c": numbers[:, 2], "n": whole, "town": towns.tolist()}
    return pl.DataFrame({**columns, "y": rng.normal(size=N)}).with_columns(pl.col("a", "b", "n").fill_nan(None))


@pytest.fixture
def later():
    """Rows with gaps where `gaps` has none, and with towns that it lacks."""
    return pl.DataFrame(
        {
            "a": [0.5, None, 1.0, 2.0],
            "b": [None, 1e7, 1.1e7, 1.2e7],
            "c": [None, 1e-6, float("nan"), 2e-6],
            "n": [1, None, 3, 4],
            "town": ["t00", None, "nowhere", "t58"],
        }
    )


NUMBERS = ["a", "b", "c", "n"]


def numbers_of(frame):
    return frame.select(pl.col(NUMBERS).cast(pl.Float64)).to_numpy()


def towns_of(frame):
    return np.array(frame["town"].to_list(), dtype=object)[:, None]


@pytest.mark.parametrize("standardize", [True, False])
def test_missing_numbers_are_filled_in_and_marked_as_scikit_learn_does(gaps, later, standardize):
    fitted = fit(gaps.drop("town"), scale="standard" if standardize else "none")
    assert fitted.feature_names == ["a", "a=missing", "b", "b=missing", "c", "n", "n=missing"]
    theirs = SimpleImputer(strategy="median", add_indicator=True).fit(numbers_of(gaps))
    order = [0, 4, 1, 5, 2, 3, 6]  # scikit-learn has the indicators last
    scaler = StandardScaler(with_mean=standardize, with_std=standardize).fit(theirs.transform(numbers_of(gaps)))
    for frame in (gaps, later):
        expected = scaler.transform(theirs.transform(numbers_of(frame)))[:, order]
        np.testing.assert_allclose(fitted.features(frame).numpy(), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent"])
def test_a_strategy_that_is_named_marks_nothing(gaps, later, strategy):
    fitted = fit(gaps.drop("town"), scale="none", impute=strategy)
    assert fitted.feature_names == NUMBERS
    theirs = SimpleImputer(strategy=strategy).fit(numbers_of(gaps))
    for frame in (gaps, later):
        expected = theirs.transform(numbers_of(frame))
        np.testing.assert_allclose(fitted.features(frame).numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("rules", "options"),
    [
        ({}, {"handle_unknown": "infrequent_if_exist", "min_frequency": 2, "max_categories": 100}),
        ({"max_categories": None}, {"handle_unknown": "infrequent_if_exist", "min_frequency": 2}),
        ({"max_categories": 7}, {"handle_unknown": "infrequent_if_exist", "min_frequency": 2, "max_categories": 7}),
        ({"max_categories": 2}, {"handle_unknown": "infrequent_if_exist", "min_frequency": 2, "max_categories": 2}),
        ({"handle_unknown": "ignore", "max_categories": None}, {"handle_unknown": "ignore"}),
        ({"handle_unknown": "ignore", "max_categories": 9}, {"handle_unknown": "ignore", "max_categories": 9}),
    ],
)
@pytest.mark.parametrize("scaled", [True, False])
def test_rare_many_and_unknown_categories_are_pooled_as_scikit_learn_does(gaps, later, rules, options, scaled):
    fitted = fit(gaps.select("town", "y"), scale="standard" if scaled else "none", **rules)
    imputer = SimpleImputer(missing_values=None, strategy="most_frequent")
    encoder = OneHotEncoder(sparse_output=False, **options)
    theirs = make_column_transformer(
        (make_pipeline(imputer, encoder, StandardScaler(with_mean=scaled, with_std=scaled)), [0]),
        (
            make_pipeline(MissingIndicator(missing_values=None), StandardScaler(with_mean=scaled, with_std=scaled)),
            [0],
        ),
    ).fit(towns_of(gaps))
    for frame in (gaps, later):
        expected = theirs.transform(towns_of(frame))
        np.testing.assert_allclose(fitted.features(frame).numpy(), expected, rtol=1e-11, atol=1e-11)
    assert fitted.feature_names[-1] == "town=missing"


def test_equally_rare_categories_are_pooled_in_scikit_learns_order():
    towns = pl.DataFrame({"town": list("aabbccddeeeff"), "y": np.arange(13.0)})
    fitted = fit(towns, scale="none", max_categories=3)
    encoder = OneHotEncoder(max_categories=3, sparse_output=False).fit(towns_of(towns))
    assert fitted.feature_names == ["town=e", "town=f", "town=other"]
    np.testing.assert_array_equal(fitted.features(towns).numpy(), encoder.transform(towns_of(towns)))


def test_no_more_categories_than_the_bound_are_kept_as_they_are():
    towns = pl.DataFrame({"town": list("aabbcc"), "y": np.arange(6.0)})
    assert fit(towns, max_categories=3).feature_names == ["town=a", "town=b", "town=c"]
    assert fit(towns, max_categories=2).feature_names == ["town=c", "town=other"]


def test_the_reference_is_one_of_the_categories_that_are_kept():
    towns = pl.DataFrame({"town": list("abbcc"), "y": np.arange(5.0)})
    fitted = fit(towns, scale="none", reference=True)
    assert fitted.feature_names == ["town=c", "town=other"]
    coded = fitted.features(pl.DataFrame({"town": ["a", "b", "c", "z"]}))
    assert coded.tolist() == [[0, 1], [0, 0], [1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("rules", "names", "unknown"),
    [
        ({}, ["town=b", "town=c", "town=other"], [0, 0, 1]),
        ({"handle_unknown": "ignore"}, ["town=a", "town=b", "town=c"], [0, 0, 0]),
        ({"handle_unknown": "ignore", "max_categories": 2}, ["town=c", "town=other"], [0, 0]),
    ],
)
def test_unknown_categories(rules, names, unknown):
    towns = pl.DataFrame({"town": list("abbccc"), "y": np.arange(6.0)})
    fitted = fit(towns, scale="none", **rules)
    assert fitted.feature_names == names
    assert fitted.features(pl.DataFrame({"town": ["z"]})).tolist() == [unknown]


def test_an_unknown_category_has_no_feature_where_none_is_rare():
    towns = pl.DataFrame({"town": list("aabb"), "y": np.arange(4.0)})
    fitted = fit(towns, scale="none")
    assert fitted.feature_names == ["town=a", "town=b"]
    assert fitted.features(pl.DataFrame({"town": ["z"]})).tolist() == [[0, 0]]


def test_unknown_categories_are_refused_with_their_row_where_that_is_asked_for():
    towns = pl.DataFrame({"town": list("abbcc"), "y": np.arange(5.0)})
    fitted = fit(towns, handle_unknown="error")
    assert fitted.feature_names == ["town=a", "town=b", "town=c"]
    new = pl.DataFrame({"town": ["b", "z", "z"]})
    with pytest.raises(DataError, match=r"new\.csv: column 'town' has the category 'z' in row 2, .*_unknown pool"):
        fitted.features(new, "new.csv")
    with pytest.raises(DataError, match="row 42"):
        fitted.features(new, "new.csv", np.array([40, 41, 42]))
    bounded = fit(towns, handle_unknown="error", max_categories=2)
    assert bounded.features(pl.DataFrame({"town": ["a"]})).shape == (1, 2)
    with pytest.raises(DataError, match="category 'z'"):
        bounded.features(new)


def test_missing_values_are_refused_with_columns_and_counts_where_that_is_asked_for(gaps):
    with pytest.raises(DataError, match=r"t: missing values in a \(\d+, first in row \d+\), b .*town .*--data.impute"):
        fit(gaps, impute="error")
    whole = fit(gaps.drop_nulls(), impute="error")
    with pytest.raises(DataError, match=r"missing values in a \(\d+, .*trained with --data.impute error"):
        whole.features(gaps)


def test_a_column_without_values_has_no_effect():
    frame = pl.DataFrame(
        {"a": [1.0, 2.0, 3.0], "b": [None] * 3, "town": pl.Series([None] * 3, dtype=pl.String), "y": [1, 2, 4]}
    )
    fitted = fit(frame)
    assert fitted.feature_names == ["a", "b"]
    new = pl.DataFrame({"a": [2.0, None], "b": [7.0, None], "town": ["A", None]})
    assert fitted.features(new).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_categories_too_many_to_be_listed_are_pooled(monkeypatch, later):
    monkeypatch.setattr(column_fit, "MOST_CATEGORIES", 2)
    towns = pl.DataFrame({"town": list("aaabbcdef"), "y": np.arange(9.0)})
    fitted = fit(towns, scale="none")
    assert fitted.encoders[0].pooled == ()
    assert Preprocessing.from_state(fitted.state()) == fitted
    assert fitted.feature_names == ["town=a", "town=b", "town=other"]
    assert fitted.features(pl.DataFrame({"town": ["a", "c", "z"]})).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert fit(towns, handle_unknown="ignore", max_categories=3).encoders[0].pooled == ("c", "d", "e", "f")


def test_categories_called_other_and_missing_have_features_of_their_own():
    kinds = ["other"] * 3 + ["missing"] * 3 + ["a"] * 3 + ["b", None]
    fitted = fit(pl.DataFrame({"kind": kinds, "y": np.arange(11.0)}), scale="none")
    assert fitted.feature_names == ["kind=a", "kind=missing", "kind=other", "kind=(other)", "kind=(missing)"]
    coded = fitted.features(pl.DataFrame({"kind": ["other", "b", "z", "missing", None]}))
    # of equally frequent categories the first in order stands in for a missing one
    assert coded.tolist() == [[0, 0, 1, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 1]]


def test_what_is_replaced_is_counted(gaps, later):
    fitted, found = fit(gaps), Substitutions()
    fitted.encode(later, np.empty((4, fitted.scaling.features)), "t", np.arange(4), [found])
    assert found.missing == {"a": 1, "b": 1, "c": 2, "n": 1, "town": 1}
    # the town t58 is not among those of the training split either
    assert "t58" not in set(gaps["town"])
    assert found.unknown == {"town": 2}
    fitted.refuse(later, "t", np.arange(4), [found])
    assert found.missing == {"a": 2, "b": 2, "c": 4, "n": 2, "town": 2}


def test_everything_survives_a_state(gaps, later):
    fitted = fit(gaps, max_categories=5, reference=True)
    restored = Preprocessing.from_state(fitted.state())
    assert restored == fitted
    assert restored.feature_names == fitted.feature_names
    np.testing.assert_array_equal(restored.features(later).numpy(), fitted.features(later).numpy())
