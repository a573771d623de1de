"""Every refused input gets one clear line."""

import numpy as np
import polars as pl
import pytest

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, DataError
from torchplug.preprocessing import DataRequirements

N = 30
TABLE = pl.DataFrame(
    {
        "a": np.linspace(0, 1, N),
        "b": np.arange(N) % 7,
        "town": [["A", "B", "C"][i % 3] for i in range(N)],
        "w": np.ones(N),
        "label": [["u", "v"][i % 2] for i in range(N)],
        "y": np.arange(N, dtype=float) ** 2,
    }
)


def with_value(column, row, value):
    """The table with one value replaced; rows count from 1."""
    values = TABLE[column].to_list()
    values[row - 1] = value
    return TABLE.with_columns(pl.Series(column, values))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": [0.5, 0.5, 0.5]}, r"split \[0.5, 0.5, 0.5\] adds up to 1.5"),
        ({"split": [0.6, 0.2]}, "adds up to 0.8"),
        ({"split": [1.2, -0.2]}, "below 0"),
        ({"split": [float("nan"), 1]}, "no number"),
        ({"split": [0.25] * 4}, "up to three ratios"),
        ({"split": []}, "up to three ratios"),
        ({"split": [0, 1, 0]}, "leaves no row to train on"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, or full, not 0"),
        ({"batch_size": -3}, "batch_size"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"batch_size": "ful"}, "batch_size"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"encode": "dummy"}, "encode must be one of auto, onehot, reference, not 'dummy'"),
        ({"handle_unknown": "other"}, "handle_unknown must be one of pool, error, ignore, not 'other'"),
        ({"impute": "zero"}, "impute must be one of auto, mean, median, most_frequent, drop, error, not 'zero'"),
        ({"impute": None}, "impute must be one of auto, .*, not None"),
        ({"scale": "minmax"}, "scale must be one of standard, robust, quantile, none, not 'minmax'"),
        ({"scale": True}, "scale must be one of .*, not True"),
        ({"max_categories": 1}, "max_categories must be at least 2, or none, not 1"),
        ({"class_weight": "even"}, "class_weight must be one of balanced, none"),
        ({"standardize_target": "yes"}, "standardize_target must be one of"),
        ({"clip_target": "yes"}, "clip_target must be one of"),
        ({"split_column": "a", "group": "b"}, "split_column and group are two ways of splitting"),
        ({"split_column": "a", "validation": "v.csv"}, "split_column already says"),
        ({"target": ["y", "y"]}, "target names y more than once"),
        ({"features": ["a", "a"]}, "features names a more than once"),
    ],
)
def test_settings_that_cannot_work(options, message):
    with pytest.raises(DataError, match=message) as caught:
        TabularData(TABLE, **{"target": "y", **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [None, "nowhere.csv"])
def test_no_source(source):
    with pytest.raises(DataError, match=r"no source|no file nowhere"):
        TabularData(source, "y").prepare(DataRequirements())


REGRESSION = DataRequirements("regression", "mse")
UNBIASED = DataRequirements("regression", "mse", center=False)
BINARY = DataRequirements("binary", "bce")
CLASSES = DataRequirements("multiclass", "cross_entropy")
COUNTS = DataRequirements("count", "poisson_nll")
nan, inf = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("table", "request_", "options", "message"),
    [
        (TABLE, REGRESSION, {"target": None}, "which column is the target.*a, b, town, w, label, y"),
        (TABLE, REGRESSION, {"target": "Y"}, "has no column Y.*its columns: a, b"),
        (TABLE, REGRESSION, {"target": "lable"}, "did you mean label"),
        (TABLE, REGRESSION, {"features": ["a", "bb"]}, "has no column bb"),
        (TABLE, REGRESSION, {"exclude": ["town2"]}, "has no column town2; did you mean town"),
        (TABLE, REGRESSION, {"weights": "v"}, "has no column v"),
        (TABLE, REGRESSION, {"features": ["a", "y"]}, "y is given both as target and as feature"),
        (TABLE, REGRESSION, {"exclude": ["a", "b", "town", "w", "label"]}, "no column is left to predict from"),
        (TABLE.head(1), REGRESSION, {}, "has one row"),
        (TABLE.head(3), REGRESSION, {}, r"split \[0.6, 0.2, 0.2\] of 3 rows leaves the test split empty"),
        (TABLE, REGRESSION, {"target": "label"}, "mse needs numbers, .*labels .u, v.*such as bce"),
        (TABLE, REGRESSION, {"target": "town"}, "mse needs numbers, .*such as cross_entropy"),
        (TABLE, CLASSES, {"target": "a"}, "cross_entropy needs class labels, .*real values from 0 to 1.*such as mse"),
        (TABLE, BINARY, {"target": "y"}, "bce needs class labels or probabilities"),
        (TABLE.with_columns(label=pl.lit("u")), BINARY, {"target": "label"}, r"one class \(u\)"),
        (TABLE.with_columns(y=pl.lit(2.5)), REGRESSION, {}, "target 'y' is 2.5 in every row"),
        (with_value("a", 3, nan), REGRESSION, {"impute": "error"},
         r"missing values in a \(1, first in row 3\): .*--data.impute auto"),
        (with_value("town", 29, None), REGRESSION, {"impute": "error"}, r"town \(1, first in row 29\)"),
        (with_value("a", 30, None), REGRESSION, {"impute": "error"}, r"a \(1, first in row 30\)"),
        (with_value("a", 4, inf), REGRESSION, {}, "column 'a' has 1 infinite value, first in row 4"),
        (with_value("a", 4, -inf), REGRESSION, {"impute": "mean"}, "infinite value, first in row 4"),
        (with_value("y", 6, inf), REGRESSION, {}, "column 'y' has 1 infinite value, first in row 6"),
        (TABLE.with_columns(y=pl.lit(nan)), REGRESSION, {}, r"no row has a target \(y\): .*--data.target"),
        (TABLE.with_columns(y=pl.lit(None)), REGRESSION, {}, r"no row has a target \(y\)"),
        (TABLE.with_columns(a=pl.when(pl.col("b") > 3).then("a"), b=pl.when(pl.col("b") < 4).then("b")), REGRESSION,
         {"impute": "drop"}, "every row lacks a feature, so --data.impute drop leaves none: set it to auto"),
        (TABLE.with_columns(d=pl.duration(days=1)), REGRESSION, {}, "column 'd' has type Duration"),
        (TABLE.with_columns(d=pl.lit([[1, 2]])), REGRESSION, {}, "column 'd' has type List"),
        (with_value("town", 7, "Z"), REGRESSION, {"seed": 1, "handle_unknown": "error"},
         "column 'town' has the category 'Z' in row 7"),
        (with_value("w", 8, 0.0), REGRESSION, {"weights": "w"}, "weights column 'w' has 0 in row 8"),
        (with_value("w", 8, -1.5), REGRESSION, {"weights": "w"}, "weights column 'w' has -1.5 in row 8"),
        (with_value("w", 8, nan), REGRESSION, {"weights": "w"}, r"missing values in w \(1, first in row 8\)"),
        (with_value("w", 8, inf), REGRESSION, {"weights": "w"}, "column 'w' has 1 infinite value"),
        (TABLE, REGRESSION, {"weights": "town"}, "weights column 'town' has type String"),
        (TABLE, UNBIASED, {"scale": "robust"}, "robust shifts features, .* without bias .*: use standard or none"),
        (TABLE, UNBIASED, {"scale": "quantile"}, "scale: quantile shifts features"),
        (TABLE, REGRESSION, {"class_weight": "balanced"}, "class_weight needs class labels"),
        (TABLE, BINARY, {"target": "label", "standardize_target": True}, "standardize_target is for regression"),
        (TABLE, BINARY, {"target": "label", "clip_target": True}, "clip_target is for regression, and bce is for"),
        (TABLE, COUNTS, {"target": "a", "clip_target": True}, "clip_target is for regression, and poisson_nll is for"),
        (TABLE, REGRESSION, {"split_column": "town"}, "split column 'town' has 'A' in row 1: .*train, validation"),
        (TABLE.with_columns(p=pl.lit("test")), REGRESSION, {"split_column": "p"}, "leaves the train split empty"),
        (TABLE.with_columns(g=pl.lit(1)), REGRESSION, {"group": "g"}, "leaves the validation split empty"),
        (with_value("town", 2, None), REGRESSION, {"group": "town"}, r"missing values in town \(1"),
        (TABLE, REGRESSION, {"time": "town"}, "time column 'town' has text that is no date"),
        (TABLE.select("label", "y"), CLASSES, {"target": "label", "features": ["y"], "validation": TABLE.select("y")},
         "has no column label"),
        (TABLE, REGRESSION, {"test": TABLE.drop("a")}, "has no column a"),
        (TABLE, REGRESSION, {"test": with_value("town", 9, "Z"), "handle_unknown": "error"}, "category 'Z' in row 9"),
        (TABLE, REGRESSION, {"validation": "nowhere.csv"}, "no file nowhere.csv"),
        (TABLE, CLASSES, {"target": "label", "test": with_value("label", 9, "x")}, "label 'x' in row 9"),
        (
            TABLE.select(town=pl.lit("A"), y="y"),
            DataRequirements("regression", reference=True),
            {},
            "no feature is left",
        ),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used(table, request_, options, message):
    with pytest.raises(DataError, match=message) as caught:
        TabularData(table, **{"target": "y", **options}).prepare(request_)
    assert "\n" not in str(caught.value)


def test_features_that_float32_cannot_hold():
    data = TabularData(TABLE.with_columns(a=pl.col("a") * 1e60), "y", scale="none")
    data.prepare(REGRESSION)
    with pytest.raises(DataError, match="too large for float32"):
        data.train_dataloader()


def test_asking_before_anything_was_read():
    with pytest.raises(ConfigurationError, match="not been read yet"):
        TabularData(TABLE, "y").frame_of("train")
