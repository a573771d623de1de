"""Types of columns of text, decided on all their values."""

from datetime import date, datetime, time

import pandas
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchplug.errors import DataError
from torchplug.tables.column_types import MISSING, typed_columns

INFERRED = {
    "whole numbers": (["1", "2", "-3"], pl.Int64, [1, 2, -3], []),
    "numbers": (["1.5", "2", "+1e3", ".5", "5."], pl.Float64, [1.5, 2.0, 1000.0, 0.5, 5.0], []),
    "spaces around": ([" 1", "2 ", "\t3"], pl.Int64, [1, 2, 3], []),
    "infinities": (["1", "Inf", "-inf"], pl.Float64, [1.0, float("inf"), float("-inf")], []),
    "Fortran's exponents": (["1.0D-01", "2"], pl.Float64, [0.1, 2.0], []),
    "thousands": (["1,000", "5", "12,345.5"], pl.Float64, [1000.0, 5.0, 12345.5], ["separators of thousands left out"]),
    "spaces between thousands": (["1 234", "5"], pl.Int64, [1234, 5], ["separators of thousands left out"]),
    "currency": (["$5", "$1,200", "-$3"], pl.Int64, [5, 1200, -3], ["$ and separators of thousands left out"]),
    "percent": (["5%", "6.5 %"], pl.Float64, [5.0, 6.5], ["% left out"]),
    "some with a sign": (["$5", "6"], pl.String, ["$5", "6"], []),
    "two currencies": (["$5", "€6"], pl.String, ["$5", "€6"], []),
    "bounds": (["<5", "6"], pl.String, ["<5", "6"], []),
    "leading zeros": (["007", "12"], pl.String, ["007", "12"], ["categories, as some values have leading zeros"]),
    "zeros": (["0", "0.5", "-0.25"], pl.Float64, [0.0, 0.5, -0.25], []),
    "missing numbers": (["?", "1", "-", "--", ".", "none"], pl.Int64, [None, 1, None, None, None, None], []),
    "a dash among words": (["-", "a"], pl.String, ["-", "a"], []),
    "truth": (["true", "false", None], pl.Boolean, [True, False, None], []),
    "nothing": ([None, "NA", "  "], pl.Null, [None, None, None], []),
    "ISO dates": (["2020-01-02", "2020-12-31"], pl.Date, [date(2020, 1, 2), date(2020, 12, 31)], []),
    "months": (["2020-01", "2020-02"], pl.Date, [date(2020, 1, 1), date(2020, 2, 1)], []),
    "German dates": (["1.2.2020", "31.12.2020"], pl.Date, [date(2020, 2, 1), date(2020, 12, 31)], []),
    "US dates": (["1/13/2020", "2/3/2020"], pl.Date, [date(2020, 1, 13), date(2020, 2, 3)], []),
    "UK dates": (["13/1/2020", "2/3/2020"], pl.Date, [date(2020, 1, 13), date(2020, 3, 2)], []),
    "names of months": (["5 Jan 2020", "-"], pl.Date, [date(2020, 1, 5), None], []),
    "with times": (["2020-01-02 10:30", "2020-01-03 00:00"], pl.Datetime,
                   [datetime(2020, 1, 2, 10, 30), datetime(2020, 1, 3)], []),
    "with zones": (["2020-01-02T10:00:00Z", "2020-01-02T10:00:00+01:00"], pl.Datetime,
                   [datetime(2020, 1, 2, 10), datetime(2020, 1, 2, 9)], []),
    "times": (["10:30", "23:05"], pl.Time, [time(10, 30), time(23, 5)], []),
    "scores of games": (["1-2", "3-4"], pl.String, ["1-2", "3-4"], []),
    "versions": (["1.2.3", "4.5.6"], pl.String, ["1.2.3", "4.5.6"], []),
    "dates and words": (["2020-01-02", "soon"], pl.String, ["2020-01-02", "soon"], []),
    "ranges": (["10-19", "20-29"], pl.String, ["10-19", "20-29"], []),
}  # fmt: skip


def typed(values, **options):
    found = typed_columns(pl.DataFrame({"c": pl.Series(values, dtype=pl.String)}), "t.csv", **options)
    return found.columns[0], found.notes


@pytest.mark.parametrize("name", INFERRED)
def test_the_type_follows_from_all_values(name):
    values, kind, expected, notes = INFERRED[name]
    series, said = typed(values)
    assert series.dtype == kind
    assert series.to_list() == expected
    assert [note in line for note, line in zip(notes, said, strict=True)] == [True] * len(notes)


def test_decimal_commas():
    assert typed(["1,5", "2", "1.234,5"], decimal=",")[0].to_list() == [1.5, 2.0, 1234.5]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_numbers_are_read_as_python_writes_them(numbers):
    assert typed([repr(number) for number in numbers])[0].cast(pl.Float64).to_list() == numbers


def test_missing_values_are_those_of_pandas_and_more():
    ours = {*MISSING, ".", "-", "--", "none"}
    assert ours >= pandas._libs.parsers.STR_NA_VALUES
    series, _ = typed([*(word for word in MISSING), "1"])
    assert series.null_count() == len(MISSING)
    assert typed(["k.A.", "3"], missing=["k.A."])[0].to_list() == [None, 3]


def test_days_and_months_that_cannot_be_told_apart_are_refused():
    with pytest.raises(DataError, match=r"column 'c' has dates such as 1/2/2020.*--data\.dayfirst"):
        typed(["1/2/2020", "3/4/2020"])
    assert typed(["1/2/2020"], dayfirst=True)[0].to_list() == [date(2020, 2, 1)]
    assert typed(["1/2/2020"], dayfirst=False)[0].to_list() == [date(2020, 1, 2)]


@pytest.mark.parametrize(
    ("values", "known", "expected"),
    [
        (["007", "012"], pl.String, ["007", "012"]),
        (["7", None], pl.String, ["7", None]),
        (["$7", "1,000"], pl.Float64, [7.0, 1000.0]),
        ([None, "NA"], pl.Float64, [None, None]),
        (["2020-01-02 12:00"], pl.Date, [datetime(2020, 1, 2, 12)]),
    ],
)
def test_a_type_that_is_decided_is_kept(values, known, expected):
    assert typed(values, types={"c": known})[0].to_list() == expected


@pytest.mark.parametrize(
    ("values", "known", "message"),
    [
        (["1", "x"], pl.Float64, "column 'c' has 'x' in row 2, where the training data have numbers: correct it, or"),
        (["soon"], pl.Datetime, "column 'c' has 'soon' in row 1, where the training data have dates"),
        (["2020-01-02"], pl.Time, "where the training data have times"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_row(values, known, message):
    with pytest.raises(DataError, match=message):
        typed(values, types={"c": known})
