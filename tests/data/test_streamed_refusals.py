"""Every input that cannot be streamed gets one clear line."""

import polars as pl
import pytest

from streamed_files import BINARY, CLASSES, REGRESSION, mixed_table, prepared, written
from torchplug.data import parquet
from torchplug.data.streamed import StreamedSplit
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, DataError
from torchplug.preprocessing import DataRequirements, value_counts


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(parquet, "_FILE_BLOCK_NUMBERS", 2**8)


@pytest.fixture
def table():
    return mixed_table()


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("iris", {}, "iris is a bundled set: leave stream out"),
        ("x.csv", {}, r"x.csv is CSV: write it once as Parquet, .*scan_csv\('x.csv'\).sink_parquet\('x.parquet'\)"),
        ("x.tsv.gz", {}, r"x.tsv.gz is CSV: .*scan_csv\('x.tsv.gz', .*\).sink_parquet\('x.parquet'\)"),
        ("x.tsv", {}, r'separator="\\t"'),
        ("x.json", {}, "does not end in .parquet"),
        (pl.DataFrame({"a": [1]}), {}, "leave stream out for a table in memory"),
        ("x.parquet", {"validation": "v.csv"}, "v.csv is CSV"),
        ("x.parquet", {"group": "g"}, "group needs every row at once.*split_column"),
        ("x.parquet", {"time": "t"}, "time needs every row at once"),
        ("x.parquet", {"impute": "median"}, "median needs every value at once.*auto, mean or most_frequent"),
    ],
)
def test_settings_that_cannot_be_streamed(source, options, message):
    with pytest.raises(DataError, match=message) as caught:
        TabularData(source, "y", stream=True, **options)
    assert "\n" not in str(caught.value)


def broken(column, row, value):
    """One value replaced; rows count from 1."""
    return lambda table: table.with_columns(
        pl.when(pl.col("id") == row - 1).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


def same(table):
    return table


NO_LOSS = DataRequirements("regression")


@pytest.mark.parametrize(
    ("change", "request_", "options", "message"),
    [
        (same, REGRESSION, {"scale": "robust"}, "robust needs every value at once, .*: use standard or none"),
        (same, REGRESSION, {"scale": "quantile"}, "quantile needs every value at once, .*: use standard or none"),
        (same, NO_LOSS, {"batch_size": "full"}, "stream never holds all rows, so batch_size cannot"),
        (same, REGRESSION, {"target": None}, "which column is the target.*id, a, b"),
        (same, REGRESSION, {"target": "Y"}, "has no column Y"),
        (same, REGRESSION, {"weights": "v"}, "has no column v"),
        (same, REGRESSION, {"target": "label"}, "mse needs numbers, .*labels .maybe"),
        (same, CLASSES, {"target": "a", "features": ["b"]}, "cross_entropy needs class labels, .*real values from 49"),
        (same, BINARY, {"target": "y"}, "bce needs class labels or probabilities"),
        (same, REGRESSION, {"target": "flat", "features": ["a"]}, "target 'flat' is 3.5 in every row"),
        (same, BINARY, {"class_weight": "balanced", "target": "p"}, "class_weight needs class labels"),
        (same, CLASSES, {"standardize_target": True, "target": "label"}, "standardize_target is for regression"),
        (same, REGRESSION, {"features": ["flat", "y"]}, "y is given both as target and as feature"),
        (same, REGRESSION, {"split_column": "town"}, "split column 'town' has .* in row 1: "),
        (same, REGRESSION, {"split": [0.999, 0.001]}, "leaves the validation split empty"),
        (lambda t: t.with_columns(town=pl.lit("A")), REGRESSION, {"features": ["town"], "encode": "reference"},
         "no feature is left"),
        (lambda t: t.with_columns(label=pl.lit("u")), CLASSES, {"target": "label"}, r"one class \(u\)"),
        (lambda t: t.head(1), REGRESSION, {"split": [1]}, "has one row"),
        (lambda t: t.head(0), REGRESSION, {}, "has 0 rows and 17 columns"),
        (lambda t: t.with_columns(y=pl.lit(None, pl.Float64)), REGRESSION, {}, r"no row has a target \(y\)"),
        (lambda t: t.with_columns(a=pl.when(t["b"] > 1).then("a"), b=pl.when(t["b"] < 2).then("b")), REGRESSION,
         {"impute": "drop"}, "every row lacks a feature, so --data.impute drop leaves none"),
        (lambda t: t.with_columns(a=pl.duration(days=1)), REGRESSION, {}, "column 'a' has type Duration"),
        (broken("a", 300, float("nan")), REGRESSION, {"impute": "error"},
         r"rows .* to .*: missing values in a \(1, first in row 300\)"),
        (broken("a", 300, float("inf")), REGRESSION, {"impute": "mean"}, "infinite value, first in row 300"),
        (broken("label", 300, "x"), CLASSES, {"target": "label", "seed": 0}, "label 'x' in row 300"),
        (broken("town", 300, "Z"), REGRESSION, {"seed": 0, "handle_unknown": "error"}, "category 'Z' in row 300"),
        (broken("w", 300, -1.0), REGRESSION, {"weights": "w"}, "weights column 'w' has -1 in row 300"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used(table, tmp_path, change, request_, options, message):
    source = written(change(table), tmp_path)
    with pytest.raises(DataError, match=message) as caught:
        prepared(source, request_, **{"target": "y", "stream": True, **options})
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"no file nowhere\.parquet"):
        prepared("nowhere.parquet", REGRESSION, stream=True)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 this is none PAR1")
    with pytest.raises(DataError, match=r"bad.parquet cannot be read as Parquet: "):
        prepared(tmp_path / "bad.parquet", REGRESSION, stream=True)


def test_more_values_than_can_be_counted(table, tmp_path, monkeypatch):
    source = written(table.with_columns(name="k" + pl.col("id").cast(pl.String)), tmp_path)
    monkeypatch.setattr(value_counts, "MOST_VALUES", 50)
    with pytest.raises(DataError, match="column 'name' has more than 50 different values: leave it out with exclude"):
        prepared(source, REGRESSION, target="y", features=["name"], stream=True, handle_unknown="error")
    with pytest.raises(DataError, match="column 'a' has more than 50 different values: set impute to auto or mean"):
        prepared(source, REGRESSION, target="y", impute="most_frequent", stream=True)
    with pytest.raises(DataError, match="target 'name' has more than 50 labels"):
        prepared(source, CLASSES, target="name", stream=True)
    assert prepared(source, BINARY, target="p", stream=True).sizes["train"]


def test_the_rows_are_not_held(table, tmp_path):
    data = prepared(written(table, tmp_path), REGRESSION, target="y", stream=True)
    assert isinstance(data.rows_of("train"), StreamedSplit)
    with pytest.raises(ConfigurationError, match=r"not held in memory: read .*table\.parquet with polars\.scan"):
        data.frame_of("train")


def test_features_that_float32_cannot_hold(table, tmp_path):
    source = written(table.with_columns(a=pl.col("a") * 1e60), tmp_path)
    data = prepared(source, DataRequirements("regression"), target="y", scale="none", stream=True)
    with pytest.raises(DataError, match="too large for float32"):
        list(data.train_dataloader())
