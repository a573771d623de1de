import bz2
import csv
import gzip
import io
import lzma
import tarfile
import zipfile

import pandas as pd
import polars as pl
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from torchplug.errors import DataError
from torchplug.tables import csv_rows, read, require_file
from torchplug.tables.csv_dialect import find_dialect
from torchplug.tables.csv_text import CsvFormat, read_csv_text

PLAIN = {"x": ["1.5", "-2", "0.25"], "z": ["3", "14", "5"], "y": ["u", "v", "w"]}


def written(separator=",", end="\n", columns=PLAIN):
    return end.join(separator.join(row) for row in [list(columns), *zip(*columns.values(), strict=True)]) + end


@pytest.fixture
def text(tmp_path):
    """Write a file, and read it."""

    def read_text(content, name="t.csv", **form):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_csv_text(path, CsvFormat(**form))

    return read_text


@pytest.fixture
def columns(text):
    """Write a file, and read its columns."""
    return lambda *args, **form: stripped(text(*args, **form).frame)


@pytest.fixture
def refused(text):
    """Write a file, and read the one line that refuses it."""

    def refusal(*args, **form):
        with pytest.raises(DataError) as caught:
            text(*args, **form)
        message = str(caught.value)
        assert len(message.splitlines()) == 1
        assert len(message) < 1000
        return message

    return refusal


def stripped(frame):
    return {name: [(value and value.strip()) or None for value in frame[name]] for name in frame.columns}


# ---------------------------------------------------------------------- separators


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|", ", ", " ;", "; ", " | "])
def test_separators_are_found(text, separator, name):
    found = text(written(separator), name)
    assert stripped(found.frame) == PLAIN
    bare = separator.strip(" ")
    promised = "\t" if name == "t.tsv" else ","
    assert found.notes == (() if bare == promised else (f"read with separator {bare!r} (--data.separator)",))


def test_separators_within_quotes_separate_nothing(text):
    found = text('a;b\n"1,2,3";x\n"4,5";"y;z"\n')
    assert stripped(found.frame) == {"a": ["1,2,3", "4,5"], "b": ["x", "y;z"]}


def test_what_can_be_read_by_two_separators_is_read_as_the_name_promises(text):
    content = "a,b;c\n1,2;3\n4,5;6\n"
    found = text(content)
    assert found.frame.columns == ["a", "b;c"]
    assert found.notes == ("read with separator ','; ';' would do as well (--data.separator)",)
    assert text(content, separator=";").frame.columns == ["a,b", "c"]


def test_what_can_be_read_by_two_other_separators_is_refused(refused):
    assert "can be read with separator ';' or '|': say which with --data.separator" in refused("a;b|c\n1;2|3\n4;5|6\n")


def test_one_column_is_one_column(text):
    found = text("name\nJohn Smith\nJane Doe\n")
    assert found.frame.to_dict(as_series=False) == {"name": ["John Smith", "Jane Doe"]}
    assert found.notes == ()


@pytest.mark.parametrize("given", ["\t", "\\t", "tab"])
def test_a_separator_is_given_as_one_character(columns, given):
    assert columns(written("\t"), separator=given) == PLAIN


@pytest.mark.parametrize("separator", ["§", ":", " ", "~", "^", "*", "."])
def test_any_character_can_separate(text, separator):
    assert stripped(text("a§b§c\n1§§3\n".replace("§", separator), separator=separator).frame) == {
        "a": ["1"],
        "b": [None],
        "c": ["3"],
    }


@pytest.mark.parametrize("given", ["", ",,", "comma", '"', "\n", "\r", "\0"])
def test_what_is_no_character_is_refused(refused, given):
    assert refused(written(), separator=given).startswith("--data.separator ")


def test_single_spaces_are_read_and_several_refused(text, refused):
    # as R's write.table writes by default
    assert stripped(text('"x" "z" "y"\n"1" 1.5 3 "u"\n"2" -2 14 "v"\n').frame) == {
        "x": ["1.5", "-2"],
        "z": ["3", "14"],
        "y": ["u", "v"],
    }
    message = refused("x    z\n1.5  3\n-2  14\n")
    assert "several spaces" in message
    assert "--data.separator" in message


def test_excels_first_line_says_the_separator(text):
    found = text("sep=|\r\na|b;c\r\n1|2;3\r\n")
    assert stripped(found.frame) == {"a": ["1"], "b;c": ["2;3"]}
    assert found.notes == ("read with separator '|', as line 1 says (--data.separator)",)


# ---------------------------------------------------------------------- decimal marks

DECIMAL_NOTE = "read with decimal mark ',' (--data.decimal)"


@pytest.mark.parametrize(
    ("values", "decimal"),
    [
        (["1,5", "2"], ","),
        (["-0,123", "1,234"], ","),
        (["1.234,5", "7"], ","),
        (["1,5e-3", ",5"], ","),
        (["", "1,5"], ","),
        (["1.5", "2"], "."),
        (["1.5", "1,234"], "."),
        (["1,234.5", "2"], "."),
        (["1.234", "5.678"], "."),
        (["Smith, J", "Doe, J"], "."),
        (["Smith, 1,5", "1,5", "x", "y"], "."),
        (["1,234,567", "2"], "."),
    ],
)
def test_decimal_commas_are_found(text, values, decimal):
    found = text("a;b\n" + "".join(f"{value};u\n" for value in values))
    assert found.decimal == decimal
    assert (DECIMAL_NOTE in found.notes) == (decimal == ",")


def test_a_decimal_comma_between_commas_is_not_assumed(text):
    assert text('a,b\n"1,5",2\n').decimal == "."


def test_a_given_decimal_mark_is_used_without_a_note(text):
    assert text("a\tb\n1,5\t2\n", "t.tsv", decimal=".").decimal == "."
    found = text("a\tb\n1.5\t2\n", "t.tsv", decimal=",")
    assert (found.decimal, found.notes) == (",", ())


def test_commas_that_may_be_either_mark_are_refused(refused, text):
    content = "a;b\n1,234;u\n5,678;v\n"
    message = refused(content)
    assert "'1,234' in column 'a'" in message
    assert "--data.decimal" in message
    assert text(content, decimal=",").decimal == ","


def test_both_marks_leave_the_point_with_a_note(text):
    found = text("a\tb\n1,5\t2.5\n2,25\t3.5\n", "t.tsv")
    assert found.decimal == "."
    assert found.notes == ("'1,5' in column 'a' is text, as '2.5' in column 'b' has a decimal point (--data.decimal)",)


# ---------------------------------------------------------------------- encodings

UMLAUTS = {"Stadt": ["Köln", "Zürich", "Łódź"], "größe": ["1", "2", "3"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"])
def test_unicode_is_found(text, encoding):
    found = text(written(columns=UMLAUTS).encode(encoding))
    assert found.frame.to_dict(as_series=False) == UMLAUTS
    assert found.notes == ()


@pytest.mark.parametrize("order", ["le", "be"])
@pytest.mark.parametrize("width", [16, 32])
def test_byte_order_marks_are_no_part_of_a_name(text, width, order):
    content = ("\ufeff" + written(columns=UMLAUTS)).encode(f"utf-{width}-{order}")
    assert text(content).frame.to_dict(as_series=False) == UMLAUTS
    given = text(content, encoding=f"utf-{width}-{order}")
    assert given.frame.to_dict(as_series=False) == UMLAUTS


def test_other_bytes_are_read_as_those_of_western_windows_with_a_note(text):
    content = "city,price\nBern,1\nKöln,€5\nZürich,“7”\n"
    found = text(content.encode("cp1252"))
    assert found.frame.to_dict(as_series=False) == {"city": ["Bern", "Köln", "Zürich"], "price": ["1", "€5", "“7”"]}
    assert found.notes == ("read with encoding cp1252, as line 3 is not UTF-8 (--data.encoding)",)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1250", "utf-8", "shift_jis", "utf-7", "koi8-r", "utf-16"])
def test_a_given_encoding_is_used(text, encoding):
    table = {"a": {"shift_jis": ["ア", "イ"], "koi8-r": ["д"]}.get(encoding, ["ä", "ö"])}
    found = text(written(columns=table).encode(encoding), encoding=encoding)
    assert found.frame.to_dict(as_series=False) == table
    assert found.notes == ()


@pytest.mark.parametrize("encoding", ["utf-9", "", "hex", "rot13", "a\0b", "x" * 5000, "undefined"])
def test_unknown_encodings_are_refused(refused, encoding):
    assert "--data.encoding" in refused(written(), encoding=encoding)


@pytest.mark.parametrize(
    ("content", "encoding", "line"),
    [
        ("a,b\nx,1\nä,2\n".encode("latin-1"), "utf-8", 3),
        ("a,b\nä,1\n".encode(), "ascii", 2),
        (b"a,b\nx,\x81\n", "cp1252", 2),
        ("a,b\n".encode("utf-16") + b"x", "utf-16", 2),
        (b"a,b\n\x81,2\n", None, 2),
        ("a,b\nä,1\n".encode() + b"\xe4,2\n", None, 3),
        (b"\xef\xbb\xbfa,b\n1,2\n\xff,2\n", None, 3),
        (b"a,b\n" + "ä,1\n".encode() * 600_000 + b"\xff,1\n", None, 600_002),
        (b"a,b\n" + "ä,1\n".encode() * 600_000 + b"\xff,1\n", "utf-8", 600_002),
    ],
)
def test_bytes_that_do_not_fit_are_refused_with_their_line(refused, content, encoding, line):
    message = refused(content, encoding=encoding)
    assert f"line {line} " in message or f"line {line}," in message
    assert "--data.encoding" in message


def test_nul_bytes_are_refused(refused):
    assert "NUL byte in line 3" in refused(b"a,y\n1,2\n\0,3\n")
    assert "NUL byte in line 2" in refused("a,y\n\0,3\n".encode("utf-16"))
    assert "--data.encoding" in refused("a,y\n1,3\n".encode("utf-16-le"), encoding="utf-8")


# ---------------------------------------------------------------------- compression and other formats


@pytest.mark.parametrize(
    ("name", "separator"), [("t.csv.gz", ","), ("t.tsv.gz", "\t"), ("T.CSV.GZ", ","), ("t.csv", ",")]
)
def test_gzip_is_read(text, tmp_path, name, separator):
    found = text(gzip.compress(written(separator).encode()), name)
    assert stripped(found.frame) == PLAIN
    assert found.notes == ()
    require_file(tmp_path / name)
    assert read(tmp_path / name)["y"].to_list() == PLAIN["y"]


def test_gzip_in_several_parts_and_another_encoding_is_read(columns):
    content = written(columns=UMLAUTS).encode("utf-16")
    assert columns(gzip.compress(content[:20]) + gzip.compress(content[20:]), "t.csv.gz") == UMLAUTS


def test_damaged_gzip_is_refused(refused):
    content = gzip.compress(written().encode() * 1000)
    for damaged in (content[:-4], content[:50], content[:60] + b"\xff\xff\xff" + content[63:], content + b"?"):
        assert "gzip" in refused(damaged, "t.csv.gz")


def test_a_gzip_bomb_stops_at_half_of_the_memory(refused, monkeypatch):
    monkeypatch.setattr("torchplug.memory.available_memory", lambda: 10_000_000)
    monkeypatch.setattr("torchplug.tables.csv_bytes.available_memory", lambda: 10_000_000)
    assert "more than 5 MB" in refused(gzip.compress(b"a,b\n" + b"1,2\n" * 10_000_000), "t.csv.gz")


def _zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, written())
    return file.getvalue()


def _tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("t.csv"), io.BytesIO())
    return file.getvalue()


def _parquet():
    file = io.BytesIO()
    pl.DataFrame(PLAIN).write_parquet(file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_zipped("t.csv"), "a zip archive, not CSV: unpack"),
        (_zipped("[Content_Types].xml", "xl/workbook.xml"), "a spreadsheet, not CSV: save it as CSV"),
        (bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "an old Excel workbook"),
        (bz2.compress(written().encode()), "compressed with bzip2"),
        (lzma.compress(written().encode()), "compressed with xz"),
        (_tar(), "a tar archive"),
        (gzip.compress(_tar()), "a tar archive"),
        (_parquet(), "a Parquet file, not CSV: give it a name that ends in .parquet"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page"),
        (b'[{"a": 1}, {"a": 2}]', "JSON"),
        (b"%PDF-1.4\n", "a PDF document"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_formats_are_refused_by_what_they_are(refused, content, message):
    assert message in refused(content)


def test_names_of_columns_are_no_other_format(columns):
    assert columns("PAR1,PAR2\n1,2\n") == {"PAR1": ["1"], "PAR2": ["2"]}
    assert columns("RDX,BZh\n1,2\n") == {"RDX": ["1"], "BZh": ["2"]}


# ---------------------------------------------------------------------- lines


@pytest.mark.parametrize("blank", ["", "  ", "\t", " \t "])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("quoted", [False, True])
def test_blank_lines_are_skipped_however_lines_end(columns, blank, end, quoted):
    lines = ["", "a,b", "", "1,2", blank, blank, ",", '"u",5' if quoted else "u,5", "", blank]
    assert columns(end.join(lines)) == {"a": ["1", None, "u"], "b": ["2", None, "5"]}


def test_blank_lines_of_one_column_are_skipped_and_quoted_blanks_kept(columns):
    assert columns("a\n1\n\n2\n  \n3\n\n") == {"a": ["1", "2", "3"]}
    assert columns('a\n1\n\n""\n3\n') == {"a": ["1", None, "3"]}


def test_tabs_separate_even_in_a_line_without_values(columns):
    assert columns("a\tb\n1\t2\n\t\n3\t4\n", "t.tsv") == {"a": ["1", None, "3"], "b": ["2", None, "4"]}


def test_mixed_line_ends_are_read(columns):
    assert columns("a,b\r\n1,2\n3,4\r5,6\r\n") == {"a": ["1", "3", "5"], "b": ["2", "4", "6"]}
    assert columns('a,b\r\n"1\r2\r\n\n3",2\n"3",4\r5,6') == {"a": ["1\r2\r\n\n3", "3", "5"], "b": ["2", "4", "6"]}


def test_line_ends_and_separators_within_quotes_are_values(columns):
    content = '"a\nb",c\n"1,\n\n2","say ""no"""\n3,4\n'
    assert columns(content) == {"a\nb": ["1,\n\n2", "3"], "c": ['say "no"', "4"]}


def test_spaces_around_quotes_are_no_part_of_values(columns):
    assert columns('"a" , "b"\n"1, 2" , "x"\n 3, "y, z" \n') == {"a": ["1, 2", "3"], "b": ["x", "y, z"]}


def test_quotes_within_a_value_are_characters(columns):
    assert columns('a,b\n5" pipe,1\n6" pipe,2\n') == {"a": ['5" pipe', '6" pipe'], "b": ["1", "2"]}
    assert columns('a,b\nx,1\n5" pipe,"2"\n') == {"a": ["x", '5" pipe'], "b": ["1", "2"]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,z,y\n" + "1,2,3\n" * 40 + "1.0,2,3,4\n", "line 42 has 4 fields, and the header 3"),
        ("x,z,y\n" + "1,2,3\n" * 400_000 + "1.0,2,3,4\n", "line 400002 has 4 fields, and the header 3"),
        ("x,z,y\n1,2,3\n1,2\n", "line 3 has 2 fields, and the header 3"),
        ("x,z,y\n1,2,3\n\n1\n", "line 4 has 1 field, and the header 3"),
        ("x,z,y\n1,2\n1,2,3\n", "line 2 has 2 fields, and the header 3"),
        ("x,z,y\n1,2,3\n1,2,3,4\n1,2\n", "line 3 has 4 fields, and the header 3"),
        ("x;y\n1;2\n3;4;5\n6;7\n" + "1;2\n" * 30, "line 3 has 3 fields, and the header 2"),
        ('x,y\n"1\n2",2\n"a,b"\n', "line 4 has 1 field, and the header 2"),
        ('x,y\n1,2\n"a\nb",c,d\n', "line 3, up to line 4 within quotes, has 3 fields, and the header 2"),
        ("# c\n\nx,y\n1,2\n3,4\n5\n", "line 6 has 1 field, and the header 2"),
        ("x,y\r1,2\r3\r", "line 3 has 1 field, and the header 2"),
        ("title of it\nx,y\n1,2\n", "line 2 has 2 fields, and the header 1"),
        ("a,b\n1,2,3\n", "line 2 has 3 fields, and the header 2"),
        ("a,b\n1,2,3\n1,4,5\n", "line 2 has 3 fields, and the header 2"),
        ("a,b\n1,2,3\n2,4,5\n" * 1 + "3,4\n", "line 2 has 3 fields, and the header 2"),
        (
            "a,b\n" + "".join(f"{i},2,3\n" for i in range(200)) + "3,4\n",
            "line 202 has 2 fields, and the header 2 and no",
        ),
    ],
)
def test_ragged_rows_are_refused_with_their_line(refused, content, message):
    assert message in refused(content)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('a,"y\n1,2\n1,2\n', 1),
        ('a,y\n1,2\n"3,4\n1,2\n', 3),
        ('a,y\n1,2\n3,"4\n', 3),
        ('a,y\n1,2\n3,"4', 3),
        ('a,y\n"u\nv","3,4\n1,2\n\n', 3),
        ('a,y\r\n1,2\r\n3,"4\r\n', 3),
        ('a,y\n"b",1\n' + "1,2\n" * 400_000 + '"c,2\n', 400_003),
    ],
)
def test_a_quote_that_is_never_closed_is_refused_where_it_opens(refused, content, line):
    assert f"line {line} opens a quote that is never closed" in refused(content)


def test_separators_at_the_end_of_lines_end_no_column(columns):
    expected = {"a": ["1", "3"], "b": ["2", None]}
    assert columns("a,b,\n1,2,\n3,,\n") == expected
    assert columns("a,b,,\n1,2,,\n3,,,\n") == expected
    assert columns("a,b\n1,2,\n3,,\n") == expected
    assert columns("a,b\n1,2\n3,,\n") == expected
    assert columns("a,b,\n1,2\n3,,\n") == expected
    assert columns("a;b;\n1;2;\n3;;\n") == expected


# ---------------------------------------------------------------------- headers


@pytest.mark.parametrize("index", [("1", "2"), ("17", "5"), ("Mazda RX4", "Fiat 128")])
@pytest.mark.parametrize("header", [",x,y", '"","x","y"', "x,y", "\tx\ty", "x\ty"])
def test_a_first_column_without_a_name_that_tells_rows_apart_is_left_out(text, header, index):
    separator = "\t" if "\t" in header else ","
    rows = [separator.join([f'"{index[0]}"', "3", "4"]), separator.join([f'"{index[1]}"', "3", "6"])]
    found = text("\n".join([header, *rows]), "t.tsv" if separator == "\t" else "t.csv")
    assert stripped(found.frame) == {"x": ["3", "3"], "y": ["4", "6"]}
    assert found.notes == ("the first column has no name and numbers the rows: left out as an index",)


def test_another_first_column_without_a_name_is_called_rownames(text):
    found = text(",x\nu,1\nu,2\n")
    assert stripped(found.frame) == {"rownames": ["u", "u"], "x": ["1", "2"]}
    assert found.notes == ()
    assert text("rownames,x\nu,1\nv,2\n").frame.columns == ["rownames", "x"]


def test_pandas_index_is_left_out(tmp_path, columns):
    table = pd.DataFrame({"x": [1.5, 2.5], "y": ["u", "v"]}, index=["p", "q"])
    assert columns(table.to_csv()) == {"x": ["1.5", "2.5"], "y": ["u", "v"]}


def test_other_columns_without_a_name_are_empty_or_refused(columns, refused):
    assert columns("a,,b\n1,,2\n3, ,4\n") == {"a": ["1", "3"], "b": ["2", "4"]}
    assert "column 2 of" in refused("a,,b\n1,,2\n3,x,4\n")
    assert "column 3 of" in refused("a,b,\n1,2,\n3,4,x\n")
    assert "no name" in refused(",\n1,2\n")


def test_repeated_names_are_refused(refused):
    assert "several columns named a" in refused("a,b, a\n1,2,3\n")
    assert "several columns named rownames" in refused(",rownames\n1,2\n")


def test_comments_above_the_header_are_left_out_with_a_note(text):
    found = text("# by hand, 2020\n\n# it's \"in mm\nx,y\n1,2\n3,4\n")
    assert stripped(found.frame) == {"x": ["1", "3"], "y": ["2", "4"]}
    assert found.notes == ("2 lines that begin with # above the header left out",)
    assert text("# one column\nx\n1\n2\n").frame.to_dict(as_series=False) == {"x": ["1", "2"]}


def test_a_header_may_begin_with_a_hash(text, refused):
    found = text("#id,x\n1,2\n3,4\n")
    assert found.frame.columns == ["#id", "x"]
    assert found.notes == ()
    found = text("# by hand\n#id,x\nu,2\nv,4\n")
    assert found.frame.columns == ["#id", "x"]
    assert found.notes == ("1 line that begins with # above the header left out",)
    assert "line 1 begins with # and may be header or comment" in refused("# in mm, by hand\nx,y\n1,2\n3,4\n")


@pytest.mark.parametrize("content", ["#", "#\n", "\n# a", "sep=;", "sep=;\n\n"])
def test_nothing_but_lines_above_a_header_is_a_header(text, content):
    assert text(content).frame.columns == [content.strip()]


def test_names_have_no_spaces_around_them(text):
    assert text("a, b , c d\n1,2,3\n").frame.columns == ["a", "b", "c d"]


@pytest.mark.parametrize("content", ["a,b", "a,b\n", "a,b\n\n\n", '"a","b"\r\n', "\n\na,b\n  \n"])
def test_a_header_without_rows_is_read_as_it_is(text, content):
    frame = text(content).frame
    assert (frame.columns, frame.height) == (["a", "b"], 0)


# ---------------------------------------------------------------------- anything

_VALUES = st.text(st.sampled_from('a1 ,;|\t"\n\r.é-'), max_size=5)


@st.composite
def _files(draw):
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    width = draw(st.integers(1, 4))
    rows = draw(st.lists(st.lists(_VALUES, min_size=width, max_size=width), min_size=1, max_size=6))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    file = io.StringIO(newline="")
    writer = csv.writer(
        file,
        delimiter=separator,
        lineterminator=end,
        # with line feeds as line ends, this writer puts no quotes around carriage returns
        quoting=csv.QUOTE_ALL
        if any("\r" in value for row in rows for value in row) or draw(st.booleans())
        else csv.QUOTE_MINIMAL,
    )
    for row in [[f"c{j}" for j in range(width)], *rows]:
        writer.writerow(row)
        file.write(end * draw(st.integers(0, 2)))
    encoding = draw(st.sampled_from(["utf-8", "latin-1", "utf-16", "utf-8-sig"]))
    return file.getvalue().encode(encoding), separator, encoding


@settings(deadline=None)
@given(_files())
def test_pandas_reads_the_same(tmp_path_factory, case):
    content, separator, encoding = case
    path = tmp_path_factory.mktemp("same") / "t.csv"
    path.write_bytes(content)
    read_by_pandas = pd.read_csv(
        path, sep=separator, encoding=encoding, dtype=str, keep_default_na=False, skipinitialspace=True
    )
    ours = read_csv_text(path, CsvFormat(separator=separator, encoding=encoding)).frame
    theirs = {name: [value.strip() or None for value in read_by_pandas[name]] for name in read_by_pandas}
    assert stripped(ours) == theirs


@settings(deadline=None)
@given(st.text(st.sampled_from('ab1 ,;\t"\n\r'), min_size=1, max_size=40), st.sampled_from([",", ";", "\t", " "]))
@example('a,b\n"",""\n', ",")
@example("a\n\n", ",")
@example('a,b\n1\n2,3\n"x,y",\n', ",")
def test_the_fast_way_and_the_slow_one_read_the_same(content, separator):
    encoded = content.encode()
    try:
        dialect = find_dialect(encoded, separator, separator, "t.csv")
    except DataError:
        assume(False)
    fast = csv_rows._read_as_is(encoded, dialect, "t.csv")
    if fast is not None:
        slow = csv_rows._read_rewritten(encoded, dialect, "t.csv")
        assert stripped(fast) == stripped(slow)


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text('a1,;#"\n\r \t\0é=', max_size=40).map(str.encode))
def test_anything_is_read_or_refused_in_one_line(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("anything") / "t.csv"
    path.write_bytes(content)
    message = str(path)
    try:
        read_csv_text(path, CsvFormat())
    except DataError as error:
        message = str(error)
    assert len(message.splitlines()) == 1
    assert str(path) in message
