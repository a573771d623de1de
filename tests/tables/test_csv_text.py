"""Forms in which CSV files come: what separates fields, decimal marks, encodings, headers, row indices, blank lines."""

import gzip
from datetime import date, datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest

from torchplug.errors import DataError
from torchplug.tables import CsvFormat, read, read_file

FRAME = pl.DataFrame({"x": [0.5, -1.25, 3.0], "town": ["Köln", "Zürich", "Köln"], "y": [1, 2, 3]})


@pytest.fixture
def table(tmp_path):
    def written(content, form=None, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        found = read_file(path, form or CsvFormat(), {})
        return found.frame, tuple(found.form_notes)

    return written


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
def test_the_separator_is_found_and_noted(table, separator, name):
    frame, notes = table(FRAME.write_csv(separator=separator), name=name)
    assert frame.equals(FRAME)
    usual = separator == ("\t" if name == "t.tsv" else ",")
    assert [note for note in notes if "--data.separator" in note] == ([] if usual else list(notes))
    assert usual or f"separator {separator!r}" in notes[0]


def test_the_separator_can_be_said(table):
    frame, notes = table("a b\n1 2\n3 4\n", CsvFormat(separator=" "))
    assert frame.to_dict(as_series=False) == {"a": [1, 3], "b": [2, 4]}
    assert notes == ()
    assert table("a\tb\n1\t2\n", CsvFormat(separator="\\t"))[0].columns == ["a", "b"]
    for wrong in (";;", "", '"', "\n", "§"):
        with pytest.raises(DataError, match="separator must be one character"):
            table("a,b\n1,2\n", CsvFormat(separator=wrong))


def test_single_spaces_separate_as_r_writes_them(table):
    frame, notes = table('"a" "town"\n"1" 2.5 "Bad Ems"\n"2" 3.5 "Köln"\n', name="t.txt")
    assert frame.to_dict(as_series=False) == {"a": [2.5, 3.5], "town": ["Bad Ems", "Köln"]}
    assert "separator ' '" in notes[0]
    frame, notes = table("home town\nNew York\nBad Ems\n")
    assert frame.to_dict(as_series=False) == {"home town": ["New York", "Bad Ems"]}
    assert notes == ()
    with pytest.raises(DataError, match="separated by several spaces"):
        table("a   b\n1   2\n10  3\n")


def test_two_possible_separators_are_refused(table):
    with pytest.raises(DataError, match=r"separator ';' or '\|': say which with --data.separator"):
        table("a;b|c\n1;2|3\n4;5|6\n")


def test_a_separator_within_values_separates_nothing(table):
    frame, notes = table('a,b\n"x; y; z",1\n"u; v; w",2\n')
    assert frame["a"].to_list() == ["x; y; z", "u; v; w"]
    assert notes == ()


def test_excel_says_its_separator(table):
    frame, _ = table("sep=;\na;b\n1;2\n")
    assert frame.to_dict(as_series=False) == {"a": [1], "b": [2]}


# ---------------------------------------------------------------------- decimals


def test_decimal_commas_are_found_as_pandas_reads_them(table, tmp_path):
    rng = np.random.default_rng(0)
    wanted = pd.DataFrame({"a": rng.normal(size=50) * 1000, "b": rng.integers(0, 9, 50), "y": rng.normal(size=50)})
    wanted.to_csv(tmp_path / "w.csv", sep=";", decimal=",", index=False)
    frame, notes = table((tmp_path / "w.csv").read_bytes())
    read_by_pandas = pd.read_csv(tmp_path / "w.csv", sep=";", decimal=",")
    np.testing.assert_array_equal(frame.to_numpy(), read_by_pandas.to_numpy())
    assert any("decimal ','" in note and "--data.decimal" in note for note in notes)


def test_a_decimal_mark_that_cannot_be_told_is_refused(table):
    content = "a;b\n1,234;2\n5,678;3\n"
    with pytest.raises(DataError, match=r"'1,234' in column 'a' may be thousands or have decimals: set --data.decimal"):
        table(content)
    assert table(content, CsvFormat(decimal=","))[0]["a"].to_list() == [1.234, 5.678]
    assert table(content, CsvFormat(decimal="."))[0]["a"].to_list() == [1234, 5678]


def test_points_and_thousands_leave_no_doubt(table):
    assert table("a;b\n1,234;2.5\n5,678;3.5\n")[0]["a"].to_list() == [1234, 5678]
    assert table("a;b\n1.234,5;2\n5.678,25;3\n")[0]["a"].to_list() == [1234.5, 5678.25]


def test_a_decimal_mark_that_separates_is_refused(table):
    with pytest.raises(DataError, match="cannot be both separator and decimal mark"):
        table("a,b\n1,2\n", CsvFormat(decimal=","))


# ---------------------------------------------------------------------- bytes


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_that_say_so_are_read_without_a_note(table, encoding):
    frame, notes = table(FRAME.write_csv().encode(encoding))
    assert frame.equals(FRAME)
    assert notes == ()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "cp1252", "latin-1"])
def test_other_encodings_are_guessed_with_a_note(table, encoding):
    frame, notes = table(FRAME.write_csv().encode(encoding))
    assert frame.equals(FRAME)
    assert len(notes) == 1
    assert "--data.encoding" in notes[0]


def test_the_encoding_can_be_said(table):
    frame, notes = table("town,y\nМосква,1\n".encode("cp1251"), CsvFormat(encoding="cp1251"))
    assert frame["town"].to_list() == ["Москва"]
    assert notes == ()
    with pytest.raises(DataError, match="no encoding is called 'klingon'"):
        table("a,b\n1,2\n", CsvFormat(encoding="klingon"))
    with pytest.raises(DataError, match=r"is not in ascii \(line 2\): name another in --data.encoding"):
        table("town,y\nKöln,1\n", CsvFormat(encoding="ascii"))


@pytest.mark.parametrize("name", ["t.csv.gz", "t.tsv.gz", "t.csv"])
def test_gzip_is_unpacked(table, name):
    separator = "\t" if "tsv" in name else ","
    assert table(gzip.compress(FRAME.write_csv(separator=separator).encode()), name=name)[0].equals(FRAME)


def test_gzip_beyond_memory_is_refused(table, monkeypatch):
    packed = gzip.compress(b"a,b\n" + b"1,2\n" * 5_000_000)
    monkeypatch.setattr("torchplug.memory.available_memory", lambda: 10_000_000)
    with pytest.raises(DataError, match=r"unpacking more than .* are free"):
        table(packed)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_line_ends_end_lines_also_beside_quotes(table, end):
    content = end.join(["a,b", '"u, v",1', "w,2", ""])
    assert table(content)[0].to_dict(as_series=False) == {"a": ["u, v", "w"], "b": [1, 2]}


# ---------------------------------------------------------------------- lines


@pytest.mark.parametrize("blank", ["\n", "\n\n", "   \n", "\r\n"])
@pytest.mark.parametrize("value", ["u", '"u\n\nv"'])
def test_blank_lines_are_no_rows(table, blank, value):
    frame, _ = table(f"{blank}a,b\n{value},1\n{blank}w,2\n{blank}")
    assert frame.to_dict(as_series=False) == {"a": [value.strip('"'), "w"], "b": [1, 2]}


def test_quotes_within_values_and_after_spaces_are_read_as_by_python(table):
    assert table('a,b\n5" pipe,1\n7" pipe,2\n')[0]["a"].to_list() == ['5" pipe', '7" pipe']
    assert table('a, b, c\n1, "u, v", 2\n3, "w", 4\n')[0].to_dict(as_series=False) == {
        "a": [1, 3],
        "b": ["u, v", "w"],
        "c": [2, 4],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, and the header 2"),
        ("a,b\n1,2\n3\n5,6\n", "line 3 has 1 field, and the header 2"),
        ("a,b\n1,2\n3\n5,6,7\n", "line 3 has 1 field, and the header 2"),
        ("a,b\n1,2\n\n\n3,4,5\n", "line 5 has 3 fields, and the header 2"),
        ("# made by hand\n\na,b\n1,2\n3,4,5\n", "line 5 has 3 fields"),
        ('a,b\n"u\nv",2\n3,4,5\n', "line 4 has 3 fields"),
        ('a,b\n1,2\n3,"x"y\n', "line 3"),
    ],
)
def test_the_line_of_a_ragged_row_is_named(table, content, message):
    with pytest.raises(DataError, match=message):
        table(content)


def test_comments_above_the_header_are_left_out_with_a_note(table):
    frame, notes = table("# made by hand\n# in March\na,b\n1,2\n")
    assert frame.to_dict(as_series=False) == {"a": [1], "b": [2]}
    assert "2 lines that start with # above the header left out" in notes[0]


def test_a_header_that_starts_with_a_hash_is_one(table):
    frame, notes = table("# made by hand\n#a,b\n1,2\n")
    assert frame.columns == ["#a", "b"]
    assert "a line that starts with #" in notes[0]
    with pytest.raises(DataError, match="line 1 starts with # and may be the header or a comment"):
        table("#name,town\nAnna,Bonn\nBert,Köln\n")


# ---------------------------------------------------------------------- header and index


def test_spaces_around_names_and_numbers_are_left_out(table):
    assert table("a , b\n1 , 2\n 3, 4\n")[0].to_dict(as_series=False) == {"a": [1, 3], "b": [2, 4]}


@pytest.mark.parametrize("index", [["0", "1", "2"], ["1", "2", "3"], ["Mazda RX4", "Fiat 128", "Volvo 142E"]])
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("header", [",a,b", "a,b"])
def test_an_index_without_a_name_is_left_out_with_a_note(table, index, quoted, header):
    rows = [f'"{value}",{i},{i + 5}' if quoted else f"{value},{i},{i + 5}" for i, value in enumerate(index)]
    frame, notes = table("\n".join([header, *rows]))
    assert frame.to_dict(as_series=False) == {"a": [0, 1, 2], "b": [5, 6, 7]}
    assert len(notes) == 1
    assert "left out as an index" in notes[0]


def test_pandas_own_files_are_read(tmp_path):
    wanted = pd.DataFrame({"a": [1.5, 2.5], "b": ["u", "v"]})
    wanted.to_csv(tmp_path / "t.csv")
    assert read(tmp_path / "t.csv").to_dict(as_series=False) == wanted.to_dict(orient="list")


def test_a_column_without_a_name_that_is_no_index_is_refused(table):
    with pytest.raises(DataError, match=r"column 1 .* has no name"):
        table(",a\n3,1\n3,2\n")
    with pytest.raises(DataError, match=r"column 2 .* has no name"):
        table("a,,b\n1,2,3\n")


@pytest.mark.parametrize("header", ["a,b,", "a,b"])
def test_separators_at_the_end_of_lines_make_no_column(table, header):
    frame, notes = table(f"{header}\n1,2,\n1,4,\n")
    assert frame.to_dict(as_series=False) == {"a": [1, 1], "b": [2, 4]}
    assert notes == ()


def test_years_of_two_digits_are_of_our_time(tmp_path):
    (tmp_path / "t.csv").write_text("seen,left\n8/6/20 18:57,7/31/20\n3/14/21 10:28,8/1/20\n")
    frame = read(tmp_path / "t.csv")
    assert frame["seen"].to_list() == [datetime(2020, 8, 6, 18, 57), datetime(2021, 3, 14, 10, 28)]
    assert frame["left"].to_list() == [date(2020, 7, 31), date(2020, 8, 1)]
