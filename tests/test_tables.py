import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn import datasets

from torchplug.errors import DataError
from torchplug.tables import BUNDLED, as_frame, default_target, fingerprint, read, require_columns


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_sets_are_scikit_learns(name):
    data = getattr(datasets, f"load_{name}")()
    frame = read(name)
    assert frame.columns == [*map(str, data.feature_names), "target"]
    np.testing.assert_array_equal(frame.drop("target").to_numpy(), data.data)
    np.testing.assert_array_equal(frame["target"].to_numpy(), data.target)
    assert default_target(name, frame) == ["target"]


def test_every_kind_of_table_gives_the_same_frame(tmp_path):
    frame = pl.DataFrame({"a": [1.5, 2.0, -3.0], "b": ["u", "v", "ü"], "c": [True, False, True], "d": [1, 2, 3]})
    frame.write_csv(tmp_path / "t.csv")
    frame.write_csv(tmp_path / "t.tsv", separator="\t")
    frame.write_parquet(tmp_path / "t.parquet")
    pandas = pd.DataFrame({name: frame[name].to_list() for name in frame.columns})
    for source in (frame, pandas, tmp_path / "t.csv", str(tmp_path / "t.tsv"), tmp_path / "t.parquet"):
        assert read(source).equals(frame)


def test_pandas_columns_of_every_type_keep_their_values():
    table = pd.DataFrame(
        {
            "text": ["x", None],
            "category": pd.Categorical(["u", "v"]),
            "nullable": pd.array([1, None], dtype="Int64"),
            "boolean": pd.array([True, None], dtype="boolean"),
            "half": np.array([0.5, np.nan]),
        }
    )
    frame = as_frame(table)
    assert frame.drop("half").to_dict(as_series=False) == {
        "text": ["x", None],
        "category": ["u", "v"],
        "nullable": [1, None],
        "boolean": [True, None],
    }
    assert frame["half"].is_nan().to_list() == [False, True]


@pytest.mark.parametrize("make", [np.asarray, torch.tensor], ids=["numpy", "tensor"])
def test_arrays_get_numbered_columns(make):
    values = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert as_frame(make(values)).to_dict(as_series=False) == {"x0": [1.0, 3.0, 5.0], "x1": [2.0, 4.0, 6.0]}
    assert as_frame(make([1.0, 2.0])).columns == ["x0"]


def test_half_precision_arrays_are_read():
    assert as_frame(torch.ones(2, 2, dtype=torch.bfloat16))["x1"].to_list() == [1.0, 1.0]
    assert as_frame(np.ones((2, 2), dtype=np.float16))["x1"].to_list() == [1.0, 1.0]


def test_object_arrays_keep_text_and_gaps():
    frame = as_frame(np.array([[1, "a"], [None, "b"], [2.5, None]], dtype=object))
    assert frame.to_dict(as_series=False) == {"x0": [1.0, None, 2.5], "x1": ["a", "b", None]}


def test_a_pair_brings_its_target():
    X = np.zeros((3, 2))
    single, labelled = (X, np.arange(3)), (X, np.array(["u", "v", "w"]))
    several = (X, np.ones((3, 2)))
    frames = (pl.DataFrame({"a": [1, 2, 3]}), pl.Series("price", [1, 2, 3]))
    assert default_target(single, as_frame(single)) == ["y"]
    assert as_frame(labelled)["y"].to_list() == ["u", "v", "w"]
    assert default_target(several, as_frame(several)) == ["y0", "y1"]
    assert as_frame(frames).columns == ["a", "y"]


def test_words_for_missing_become_null(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,x\nNA,\nNaN,null\n,N/A\n")
    assert read(tmp_path / "t.csv").null_count().row(0) == (3, 3)


def test_blank_lines_at_the_end_are_no_rows(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3,4\n\n\n")
    assert read(tmp_path / "t.csv").height == 2


def test_types_are_inferred_from_all_rows(tmp_path):
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 5000 + "2.5\n")
    assert read(tmp_path / "t.csv")["a"].dtype == pl.Float64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has a header and no rows"),
        (b"a,b,a\n1,2,3\n", "several columns named a"),
        (b",\n1,2\n", "column 1 .* has no name"),
        (b"a,\n1,2\n1,3\n", "column 2 .* has no name"),
        (b"a,b\n1,2\n1,2,3\n", "line 3 has 3 fields, and the header 2"),
        (b"a,b\n\x81,1\n", "--data.encoding"),
        (b"\n\n", "cannot be read as CSV"),
    ],
)
def test_unreadable_csv_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("iri", "did you mean the bundled iris"),
        ("nowhere.csv", "no file nowhere.csv"),
        (np.zeros((0, 2)), "0 rows"),
        (np.zeros((2, 2, 2)), "3 dimensions"),
        (np.zeros((2, 2), dtype=complex), "complex"),
        ((np.zeros((3, 2)), np.zeros(2)), "X has 3 rows and y has 2"),
        ({"a": [1]}, "cannot read a table from dict"),
        (3.0, "cannot read a table from float"),
        (pl.DataFrame(), "0 rows and 0 columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns named a"),
    ],
)
def test_what_is_no_table_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        read(source)


def test_files_of_unknown_kind_are_refused(tmp_path):
    (tmp_path / "t.xls").write_bytes(b"?")
    (tmp_path / "t.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"must end in \.csv"):
        read(tmp_path / "t.xls")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="is a directory"):
        read(tmp_path)


def test_missing_columns_are_named_with_near_ones():
    frame = pl.DataFrame({"price": [1], "rooms": [2]})
    with pytest.raises(DataError, match=r"houses has no column prise; did you mean price\? .*price, rooms"):
        require_columns(frame, ["prise", "rooms"], "houses")


def test_fingerprint_is_stable_and_sees_every_change(tmp_path):
    frame = pl.DataFrame({"a": [1.5, None, 3.0], "b": ["ab", "c", None], "c": [1, 2, 3]})
    frame.write_csv(tmp_path / "t.csv")
    first = fingerprint(read(tmp_path / "t.csv"))
    assert first == fingerprint(read(tmp_path / "t.csv")) == fingerprint(frame)
    assert first == fingerprint(frame.with_columns(c=pl.col("c").cast(pl.Float64)))
    changed = [
        frame.rename({"a": "A"}),
        frame.with_columns(c=pl.col("c").cast(pl.String)),
        frame.with_columns(a=pl.Series([1.5, 0.0, 3.0])),
        frame.with_columns(b=pl.Series(["a", "bc", None])),
        frame.with_columns(c=pl.Series([1, 2, 4])),
        frame.reverse(),
        frame.head(2),
        frame.select("b", "a", "c"),
    ]
    prints = {fingerprint(other) for other in changed}
    assert len(prints) == len(changed)
    assert first not in prints
