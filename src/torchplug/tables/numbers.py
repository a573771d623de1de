"""Numbers written as text: with separators of thousands, currency and percent signs, and Fortran's exponents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl

Decimal = Literal[".", ","]
"""The mark before the decimals."""

MISSING_NUMBERS = (".", "-", "--", "none")
"""Words for a missing value in a column of numbers or dates."""

LEADING_ZERO = r"^[+-]?0[0-9]+$"
"""Pattern of codes that are not numbers, such as 007."""

_SIGNS = r"[$€£¥%]"
_FORM = r"^[+-]?[$€£¥]? ?[+-]?[0-9.,'\x{a0}\x{202f} ]*[0-9][0-9.,]*([eEdD][+-]?[0-9]+)? ?[$€£¥%]?$"
_BETWEEN = {".": r"[,'\x{a0}\x{202f} ]", ",": r"[.'\x{a0}\x{202f} ]"}
"""Thousands separators, by decimal mark."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """The numbers in a text column.

    Args:
        values: (n,) float64, null where there is no value or no number.
        sign: (n,) the currency or percent sign of a value, null where it has none.
        words: (n,) the values that are no numbers, null elsewhere; those of `MISSING_NUMBERS` are none of them.
        grouped: whether some have separators of thousands.
    """

    values: pl.Series
    sign: pl.Series
    words: pl.Series
    grouped: bool = False

    @property
    def uniform(self) -> bool:
        """Whether all values are numbers, and all or none have the same sign."""
        if not self.values.count() or self.words.count():
            return False
        return self.sign.count() in (0, self.values.count()) and self.sign.drop_nulls().n_unique() <= 1


def read_numbers(text: pl.Series, decimal: Decimal) -> Numbers:
    """The numbers among the values of a column.

    Args:
        text: values without spaces around them, null where they are missing.
        decimal: the mark before the decimals.
    """
    plain = text if decimal == "." else text.str.replace(",", ".", literal=True)
    values = plain.cast(pl.Float64, strict=False)
    nothing = pl.repeat(None, len(text), dtype=pl.String, eager=True)
    failed = values.is_null() & text.is_not_null()
    if not failed.any():
        return Numbers(values, nothing, nothing)
    places, odd = failed.arg_true(), text.filter(failed)
    bare = odd.set(~odd.str.contains(_FORM), None).str.replace_all(_SIGNS, "").str.strip_chars()
    groups = bare.str.contains(rf"^[+-]?[0-9]{{1,3}}({_BETWEEN[decimal]}[0-9]{{3}})+([{decimal}][0-9]*)?$")
    bare = bare.zip_with(~groups.fill_null(False), bare.str.replace_all(_BETWEEN[decimal], ""))
    if decimal == ",":
        bare = bare.str.replace(",", ".", literal=True)
    found = bare.str.replace("[dD]", "e").cast(pl.Float64, strict=False)
    sign = odd.set(found.is_null(), None).str.extract(f"({_SIGNS})")
    words = odd.set(found.is_not_null() | odd.is_in(list(MISSING_NUMBERS)), None)
    values, signs, others = (
        whole.clone().scatter(places, part) for whole, part in ((values, found), (nothing, sign), (nothing, words))
    )
    return Numbers(values, signs, others, bool(groups.any()))
