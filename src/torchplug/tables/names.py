"""Names of columns in messages, with bounded length."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import polars as pl

from torchplug.errors import DataError

_LENGTH = 80
"""The most characters of a name or a value in a message."""

_NEAR_LENGTH = 64
_NEAR_CANDIDATES = 10_000
_NEAR_MISSING = 3
"""Similar names are no longer than this, and are looked for among so many, for so many: the comparison is slow."""


def shown(value: Any, length: int = _LENGTH) -> str:
    """A name or a value for a message, cut to this many characters."""
    text = str(value)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def enumerate_names(names: Iterable[Any], limit: int = 12) -> str:
    """Names for a message, at most `limit` of them, long ones cut."""
    names = names if isinstance(names, Sequence) else list(names)
    more = f", … ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(map(shown, names[:limit])) + more


def require_columns(frame: pl.DataFrame, columns: Iterable[str], where: str) -> None:
    """Refuse a frame that lacks columns, naming the nearest ones it has.

    Raises:
        DataError: naming the missing columns and what is there instead.
    """
    present = frame.columns
    known = set(present)
    missing = [column for column in columns if column not in known]
    if not missing:
        return
    near = dict.fromkeys(name for column in missing[:_NEAR_MISSING] for name in _near(column, present))
    hint = f"; did you mean {enumerate_names(near)}?" if near else ""
    noun = "column" if len(missing) == 1 else "columns"
    raise DataError(f"{where} has no {noun} {enumerate_names(missing)}{hint} (its columns: {enumerate_names(present)})")


def refuse_repeated(names: Sequence[str], where: str) -> None:
    """Refuse columns of the same name, and columns without one.

    Raises:
        DataError: naming them.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    if repeated:
        raise DataError(f"{where} has several columns named {enumerate_names(repeated)}: names must differ")
    if "" in names:
        raise DataError(
            f"column {names.index('') + 1} of {where} has no name: name it, or write the file without its row index"
        )


def _near(name: str, names: Sequence[str]) -> Iterator[str]:
    """The names that differ least from this one, at most two."""
    if len(name) > _NEAR_LENGTH:
        return iter(())
    candidates = islice((other for other in names if len(other) <= _NEAR_LENGTH), _NEAR_CANDIDATES)
    return iter(difflib.get_close_matches(name, list(candidates), n=2))
