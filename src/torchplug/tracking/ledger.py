"""The ledger of test splits, `test_ledger.jsonl` beside the runs: a line for each time that one was opened."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from torchplug.batch import SplitName
from torchplug.data.tabular import TabularData
from torchplug.tracking.whole_files import append_line, write_error

FILE = "test_ledger.jsonl"


def identity(data: TabularData, split: SplitName) -> dict[str, str]:
    """Which rows of which table a split has: SHA-256 of the table's content (`data`) and of the rows' numbers in it
    (`split`), as hexadecimal text.

    Args:
        data: prepared.
        split: its name.
    """
    numbers = hashlib.sha256()
    for rows in data.rows_of(split).row_numbers():
        numbers.update(rows.astype("<i8").tobytes())
    table = split if split in data.sources else "source"
    return {"data": data.fingerprints[table], "split": numbers.hexdigest()}


@dataclass(frozen=True)
class Opening:
    """An evaluation on a test split.

    Args:
        time: UTC, ISO 8601.
        recipe: the recipe's name.
        run: the run directory of the checkpoint; None for a checkpoint outside of one.
        checkpoint: the file that was evaluated.
        data: SHA-256 of the content of the table that has the rows.
        split: SHA-256 of the rows' numbers in it.
        rows: how many.
    """

    time: str
    recipe: str
    run: str | None
    checkpoint: str
    data: str
    split: str
    rows: int

    def is_of(self, other: Opening) -> bool:
        """Whether the same rows were opened."""
        return (self.data, self.split) == (other.data, other.split)


class Ledger:
    """The ledger in a folder of runs.

    Args:
        folder: the folder of all runs.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def openings(self) -> list[Opening]:
        """All of them, the first one first; damaged lines are left out."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []:
            with contextlib.suppress(ValueError, TypeError):
                found.append(Opening(**json.loads(line)))
        return found

    def append(self, opening: Opening) -> None:
        """Append an opening.

        Raises:
            WriteError: if it cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(self.path, error) from error
        append_line(self.path, json.dumps(asdict(opening)) + "\n")
