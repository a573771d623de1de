"""What was measured, kept in files to which each fit adds a line, so that a stopped run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Key(NamedTuple):
    """What was fitted to what.

    Args:
        table: the table's name.
        split: its number.
        by: a peer's name, or `ours: LABEL`.
    """

    table: str
    split: int
    by: str


class Record:
    """Results by key. Of several with one key the last counts.

    Args:
        files: files of JSON lines, all of which are read, if they exist; results are added to the last.

    Raises:
        ValueError: for a line that is no record of a fit.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._output = files[-1] if files else None
        self._fits: dict[Key, dict[str, Any]] = {}
        for path in files:
            for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], start=1):
                try:
                    fit = json.loads(line)
                    self._fits[Key(fit["table"], fit["split"], fit["by"])] = fit
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(f"{path}, line {number}: no record of a fit; remove it") from error

    def __contains__(self, key: Key) -> bool:
        return key in self._fits

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._fits[key]

    def add(self, key: Key, fit: Mapping[str, Any]) -> None:
        """Keep a fit, and append it to the file."""
        kept = self._fits[key] = {**key._asdict(), **fit}
        if self._output is not None:
            with self._output.open("a") as file:
                file.write(json.dumps(kept) + "\n")

    def of(self, table: str, by: str, measure: str) -> dict[int, Any]:
        """A measure by split, of the splits that have it."""
        fits = (fit for key, fit in self._fits.items() if key.table == table and key.by == by)
        return dict(sorted((fit["split"], fit[measure]) for fit in fits if measure in fit))
