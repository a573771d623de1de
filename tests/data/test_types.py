"""Types are decided once, on the training table, and carried to every other one."""

import base64

import numpy as np
import pandas
import polars as pl
import pytest

from torchplug.data.tabular import TabularData
from torchplug.errors import DataError
from torchplug.preprocessing import DataRequirements
from torchplug.tables import read

NUMBERS = DataRequirements("regression", "mse", full_batch=True)
CLASSES = DataRequirements("multiclass", "cross_entropy", full_batch=True)
N = 40
DICTIONARY = (
    "UEFSMRUEFRgVKkwVBhUAEgAAKLUv/SAMYQAABwAAAAwAAAAJAAAAFQAVJBU2LBVQFRAVBhUGHAAAACi1L/0gEpEAAAIAAABQAQILJCQkJCQkJC"
    "QkJBUEFSgVOkwVChUAEgAAKLUv/SAUoQAAAAAAAAAAgD8AAABAAABAQAAAgEAVABUuFUAsFVAVEBUGFQYcAAAAKLUv/SAXuQAAAgAAAFABAwuI"
    "RkQjohHRiGhENCIaEY0VBBk8NQAYBnNjaGVtYRUEABUCJQIYAWslHkysEwgRAAAAFQglAhgBeQAWUBkcGSwmABwVAhk1AAYQGRgBaxUMFlAWfh"
    "aiASZOJggpLBUEFQAVAgAVABUQFQIAPCkGGSYAUAAAACYAHBUIGTUABhAZGAF5FQwWUBaYARa8ASaAAiaqASksFQQVABUCABUAFRAVAgA8KQYZ"
    "JgBQAAAAFpYCFlAmCBbeAgAZHBgMQVJST1c6c2NoZW1hGKACLy8vLy85QUFBQUFRQUFBQUFBQUtBQXdBQmdBRkFBZ0FDZ0FBQUFBQkJBQUVBQU"
    "FBZlAvLy93UUFBQUFDQUFBQVZBQUFBQlFBQUFBUUFCUUFDQUFHQUFjQURBQUFBQkFBRUFBQUFBQUFBUU1RQUFBQUdBQUFBQVFBQUFBQUFBQUFB"
    "UUFBQUhrQUJnQUlBQVlBQmdBQUFBQUFBUUFRQUJnQUNBQUdBQWNBREFBUUFCUUFFQUFBQUFBQUFRSVVBQUFBUEFBQUFCd0FBQUFFQUFBQUFBQU"
    "FBQUVBQUFCckFBQUFDQUFJQUFBQUJBQUlBQUFBQkFBQUFQVC8vLzhBQUFBQklBQUFBQWdBREFBSUFBY0FDQUFBQUFBQUFBRUlBQUFBABggcGFy"
    "cXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZLBwAABwAAAAHAgAAUEFSMQ=="
)
"""A Parquet file of pyarrow: k is a dictionary of 7, 12, 9 and 7 again, y a number; 40 rows."""


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {"x": rng.normal(size=N).round(3), "z": rng.integers(0, 100, N), "y": rng.normal(size=N).round(3)}
    )


@pytest.fixture
def csv(tmp_path):
    def written(frame, name="t.csv"):
        frame.write_csv(tmp_path / name)
        return tmp_path / name

    return written


def prepared(source, target="y", request=NUMBERS, **options):
    data = TabularData(source, target, **{"split": [1, 0, 0], **options})
    data.prepare(request)
    return data


@pytest.mark.parametrize("values", [("007", "012", "A1", "B2"), ("7", "12", "A1", "B2"), ("true", "false", "1", "x")])
def test_categories_stay_text_in_a_file_that_has_no_letters(csv, values):
    codes = pl.DataFrame({"g": list(values) * 10, "x": np.arange(40.0), "y": np.arange(40.0)})
    data = prepared(csv(codes), scale="none")
    new = csv(codes.filter(pl.col("g").is_in(values[:2])), "new.csv")
    found = data.preprocessing.features(read(new, types=data.preprocessing.types))
    expected = data.preprocessing.features(codes.filter(pl.col("g").is_in(values[:2])))
    np.testing.assert_array_equal(found, expected)
    assert found[0, :4].tolist() != found[1, :4].tolist()


def test_labels_of_a_test_file_with_fewer_classes(csv):
    frame = pl.DataFrame({"x": np.arange(40.0), "y": ["007", "012", "A1", "B2"] * 10})
    test = csv(frame.filter(pl.col("y").is_in(["007", "012"])), "test.csv")
    data = prepared(csv(frame), request=CLASSES, test=test, split=[1, 0, 0])
    assert data.preprocessing.info.classes == ("007", "012", "A1", "B2")
    assert sorted(set(next(iter(data.test_dataloader())).target.tolist())) == [0, 1]


@pytest.mark.parametrize("kind", ["pandas", "arrow"])
def test_declared_categories_of_whole_numbers_are_categories(table, tmp_path, kind):
    if kind == "pandas":
        frame = table.to_dict(as_series=False)
        source = pandas.DataFrame(frame).assign(k=pandas.Categorical([7, 12, 9, 7] * 10))
    else:
        source = tmp_path / "t.parquet"
        source.write_bytes(base64.b64decode(DICTIONARY))
    data = prepared(source)
    assert [name for name in data.preprocessing.feature_names if name.startswith("k")] == ["k=12", "k=7", "k=9"]


def test_columns_that_are_named_as_categories(table, csv):
    for source in (table, csv(table)):
        names = prepared(source, categories=["z"], handle_unknown="ignore").preprocessing.feature_names
        assert f"z={table['z'][0]}" in names
    with pytest.raises(DataError, match="has no column w"):
        prepared(table, categories=["w"])


@pytest.mark.parametrize("words", [["n.d."], ["n.d.", "5?", "n.d."]])
@pytest.mark.parametrize("source", ["csv", "polars", "pandas", "parquet", "streamed"])
def test_numbers_with_a_few_words_are_refused(table, csv, tmp_path, words, source):
    values = table["z"].cast(pl.String).to_list()
    for i, word in enumerate(words):
        values[7 + i] = word
    frame = table.with_columns(z=pl.Series(values))
    frame.write_parquet(tmp_path / "t.parquet")
    sources = {"csv": csv(frame), "polars": frame, "pandas": pandas.DataFrame(frame.to_dict(as_series=False))}
    options = {"stream": True} if source == "streamed" else {}
    with pytest.raises(DataError) as error:
        prepared(sources.get(source, tmp_path / "t.parquet"), **options)
    count, others, line = words.count("n.d."), N - len(words), str(error.value)
    assert f"column 'z' has {others} numbers among 40 values, and 'n.d.' ({count} ×, first in row 8)" in line
    assert "--data.missing" in line
    assert "--data.categories" in line


def test_the_remedies_for_numbers_with_words_work(table, csv):
    path = csv(table.with_columns(z=pl.Series(["n.d.", *table["z"].cast(pl.String).to_list()[1:]])))
    assert prepared(path, missing=["n.d."]).preprocessing.feature_names == ["x", "z", "z=missing"]
    assert "z=n.d." in prepared(path, categories=["z"], handle_unknown="ignore").preprocessing.feature_names


def test_different_numbers_with_a_word_identify_no_rows(csv):
    rng = np.random.default_rng(1)
    frame = pl.DataFrame({"x": [f"{value:.9f}" for value in rng.normal(size=N)], "y": rng.normal(size=N)})
    with pytest.raises(DataError, match=r"column 'x' has 39 numbers among 40 values, and '\*' \(1 ×, first in row 1\)"):
        prepared(csv(frame.with_columns(x=pl.Series(["*", *frame["x"][1:]]))))


def test_numbers_with_a_word_for_missing_values_are_refused_and_those_of_tickets_are_categories(table, csv):
    numbers = [str(1000 + 7 * i) for i in range(N)]
    mostly = pl.Series("t", [*numbers[:25], *["*"] * 15])
    with pytest.raises(
        DataError, match=r"column 't' has 25 numbers among 40 values, and '\*' \(15 ×, first in row 26\)"
    ):
        prepared(csv(table.with_columns(mostly)))
    tickets = pl.Series(
        "t", [number if i % 4 else f"A/{i % 8} {i}" for i, number in enumerate([*numbers[:20], *numbers[:20]])]
    )
    assert "t=other" in prepared(csv(table.with_columns(tickets))).preprocessing.feature_names


@pytest.mark.parametrize("decimal", [".", ","])
def test_numbers_with_a_word_are_refused_whatever_their_decimal_mark(tmp_path, table, decimal):
    numbers = [f"{value:.2f}".replace(".", decimal) for value in table["x"]]
    lines = ["z;y", *(f"{'n.d.' if i == 4 else number};{i % 7}" for i, number in enumerate(numbers))]
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=r"column 'z' has 39 numbers among 40 values, and 'n\.d\.'"):
        prepared(tmp_path / "t.csv")


def test_dates_with_a_word_are_refused(table, csv):
    dates = [f"2024-01-{1 + i % 28:02d}" for i in range(N)]
    path = csv(table.with_columns(d=pl.Series(["soon", *dates[1:]])))
    with pytest.raises(DataError, match="column 'd' has 39 dates among 40 values, and 'soon'"):
        prepared(path)
    assert "d" in prepared(path, missing=["soon"]).preprocessing.feature_names


@pytest.mark.parametrize("source", ["polars", "pandas", "streamed"])
def test_dates_that_are_text_in_a_typed_table_are_refused(table, tmp_path, source):
    frame = table.with_columns(d=pl.Series([f"{1 + i % 28}.1.2024 10:00" for i in range(N)]))
    frame.write_parquet(tmp_path / "t.parquet")
    given = {"polars": frame, "pandas": pandas.DataFrame(frame.to_dict(as_series=False))}.get(
        source, tmp_path / "t.parquet"
    )
    with pytest.raises(DataError, match="column 'd' has dates as text: make it a column of dates, or name it in"):
        prepared(given, stream=source == "streamed")
    assert (
        "d=1.1.2024 10:00" in prepared(given, stream=source == "streamed", categories=["d"]).preprocessing.feature_names
    )


def test_an_empty_list_of_features_is_no_choice_of_all(table):
    with pytest.raises(DataError, match="no column is left to predict from"):
        prepared(table, features=[])


def test_codes_and_ages_of_mixed_text_are_categories(table):
    codes = table.with_columns(k=pl.Series(["1", "2", "3+", "2"] * 10), c=pl.Series(["007", "12", "9", "x1"] * 10))
    names = prepared(codes).preprocessing.feature_names
    assert {"k=3+", "c=007"} <= {*names}


@pytest.mark.parametrize("name", ["rownames", "Unnamed: 0", "__index_level_0__"])
@pytest.mark.parametrize("first", [0, 1])
def test_row_numbers_are_left_out(table, name, first):
    numbered = table.with_columns(pl.Series(name, np.arange(N) + first))
    data = prepared(numbered)
    assert data.preprocessing.feature_names == ["x", "z"]
    assert f"left out: {name} (numbers the rows); --data.features keeps a column that it names" in data.notes
    assert name in prepared(numbered, features=["x", name]).preprocessing.feature_names


def test_a_column_of_that_name_with_other_numbers_is_kept(table):
    assert (
        "rownames" in prepared(table.with_columns(rownames=pl.Series(np.arange(N)[::-1]))).preprocessing.feature_names
    )


@pytest.mark.parametrize("source", ["csv", "polars", "streamed"])
def test_columns_without_any_value_are_left_out(table, csv, tmp_path, source):
    empty = table.with_columns(e=pl.lit(None))
    empty.write_parquet(tmp_path / "t.parquet")
    given = {"csv": csv(empty), "polars": empty, "streamed": tmp_path / "t.parquet"}[source]
    data = prepared(given, stream=source == "streamed")
    assert data.preprocessing.feature_names == ["x", "z"]
    assert "left out: e (no value in any row); --data.features keeps a column that it names" in data.notes


def test_a_file_of_its_own_is_read_by_the_types_of_the_source(table, csv):
    source = csv(table.with_columns(g=pl.Series(["1", "2", "a", "b"] * 10)))
    other = csv(table.head(8).with_columns(g=pl.Series(["1", "2"] * 4)), "v.csv")
    data = prepared(source, validation=other)
    assert data.sizes["validation"] == 8
    assert "rows whose category" not in "".join(data.notes)


def test_numbers_that_are_words_in_a_later_file_are_refused_with_their_row(table, csv):
    data = prepared(csv(table))
    later = csv(table.with_columns(z=pl.Series(["1"] * 3 + ["many"] + ["2"] * 36)), "n.csv")
    with pytest.raises(DataError, match="column 'z' has 'many' in row 4, where the training data have numbers"):
        read(later, types=data.preprocessing.types)
