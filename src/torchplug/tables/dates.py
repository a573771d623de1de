"""Dates and times written as text."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from torchplug.errors import DataError

_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f", "T%H:%M", "T%H:%M:%S", "T%H:%M:%S%.f")
_ZONES = ("%#z", "Z")
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%Y-%m")
_DAY_FIRST, _MONTH_FIRST = ("%d/%m/%Y", "%d-%m-%Y", "%d/%m/%y"), ("%m/%d/%Y", "%m-%d-%Y", "%m/%d/%y")
_CLOCK = ("%H:%M", "%H:%M:%S", "%H:%M:%S%.f")
_FIRST_YEAR = 1000
_TRIED = 50
"""Values that a format is tried on before it is tried on all."""


def as_dates(text: pl.Series, where: str, dayfirst: bool | None) -> pl.Series | None:
    """Return a text column as dates, dates with times, or times of day, if one format fits all values; else None.

    Times with a zone are converted to UTC.

    Args:
        text: stripped values, null if missing.
        where: the file's name, for messages.
        dayfirst: whether 3/4/2020 is in April; None: refused if no value decides.

    Raises:
        DataError: if day and month cannot be distinguished.
    """
    if not text.str.contains(r"^[0-9A-Za-z]+[-/.: ,].*[0-9]").head(_TRIED).fill_null(True).all() or not text.count():
        return None
    distinct = text.drop_nulls().unique(maintain_order=True)
    if (format_ := _fitting(distinct, _CLOCK, pl.Time)) is not None:
        return text.str.to_time(format_)
    month, day = (_fitting(distinct, _with_times(dates)) for dates in (_MONTH_FIRST, _DAY_FIRST))
    if month is not None and day is not None and dayfirst is None:
        raise DataError(
            f"{where}: column '{text.name}' has dates such as {distinct[0]}, and day and month cannot be told apart: "
            "set --data.dayfirst true or false"
        )
    format_ = day if (month is None or dayfirst) and day is not None else month
    format_ = format_ or _fitting(distinct, _with_times(_DATES))
    return None if format_ is None else _dates(text, format_)


def _with_times(dates: Sequence[str]) -> list[str]:
    plain = [date + time for date in dates for time in _TIMES]
    return [*plain, *(form + zone for form in plain if "%H" in form for zone in _ZONES)]


def _fitting(distinct: pl.Series, formats: Sequence[str], kind: type[pl.DataType] = pl.Datetime) -> str | None:
    for format_ in formats:
        if all(_parsed(part, format_, kind).null_count() == 0 for part in (distinct.head(_TRIED), distinct)):
            return format_
    return None


def _parsed(text: pl.Series, format_: str, kind: type[pl.DataType]) -> pl.Series:
    if kind == pl.Time:
        return text.str.to_time(format_, strict=False)
    return _dates(text, format_, strict=False)


def _dates(text: pl.Series, format_: str, *, strict: bool = True) -> pl.Series:
    if "%H" in format_:
        dates = text.str.to_datetime(format_, strict=strict, time_unit="us")
        if getattr(dates.dtype, "time_zone", None) is not None:
            dates = dates.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    else:
        day = "" if "%d" in format_ else "-01"
        dates = (text + day).str.to_date(format_ + ("-%d" if day else ""), strict=strict)
    # a year has four digits, which `%Y` does not ask for
    return dates.set(dates.dt.year() < _FIRST_YEAR, None)
