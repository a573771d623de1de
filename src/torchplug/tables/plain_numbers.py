"""Reading of text columns of plain numbers, all at once."""

from __future__ import annotations

import polars as pl

from torchplug.tables.numbers import LEADING_ZERO

EXACT = 2**53
"""Whole numbers below have a float of their own."""


def plain_numbers(texts: pl.DataFrame) -> dict[str, pl.Series]:
    """Return the columns that hold only finite numbers and nulls, as integers if all values are whole.

    One by one, the columns of a wide table would dominate the time.

    Args:
        texts: columns of text; one with leading zeros holds codes.
    """
    numbers = texts.select(pl.all().cast(pl.Float64, strict=False))
    whole = (pl.all() == pl.all().floor()).all() & (pl.all().abs().max() < EXACT)
    facts = zip(
        texts.columns,
        texts.null_count().row(0),
        numbers.null_count().row(0),
        numbers.select(pl.all().is_finite().all()).row(0),
        numbers.select(whole).row(0),
        texts.select(pl.all().str.contains(LEADING_ZERO).any()).row(0),
        strict=True,
    )
    found = dict[str, pl.Series]()
    for name, gaps, failures, finite, integral, zeros in facts:
        if gaps == failures < len(texts) and finite and not zeros:
            found[name] = numbers[name].cast(pl.Int64) if integral else numbers[name]
    return found
