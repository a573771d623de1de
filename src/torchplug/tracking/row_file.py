"""Files of JSON objects, one per line, to which rows are appended whole."""

from __future__ import annotations

import json
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from torchplug.tracking.whole_files import append_row, whole_file, write_error

_encode = json.JSONEncoder(allow_nan=False).encode  # made once: `json.dumps` makes one each time


class RowFile:
    """Appends rows, which are on disk when a call returns.

    An incomplete row that a kill may have left is removed first.

    Args:
        path: the file; it is created when it is first needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None  # a descriptor: opening the file again would be most of a row's time
        self._closing: Callable[[], object] = lambda: None

    def __getstate__(self) -> dict[str, Any]:
        """A copy opens the file for itself."""
        return {**self.__dict__, "_file": None, "_closing": None}

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows by one write.

        Raises:
            WriteError: if they cannot be written; then no part of them remains.
        """
        text = "".join([f"{_encode(row)}\n" for row in rows])
        append_row(self._open(), text.encode(), self._path)

    def lines(self) -> list[bytes]:
        """The complete rows, as they stand in the file; none if it does not exist."""
        if self._file is None and not self._path.exists():
            return []
        self._open()
        return self._path.read_bytes().splitlines(keepends=True)

    def replace(self, lines: Iterable[bytes]) -> None:
        """Rewrite the file with these lines alone.

        Raises:
            WriteError: if the file cannot be written; then it is unchanged.
        """
        if self._file is not None:
            self._closing()
            self._file = None
        with whole_file(self._path) as file:
            file.writelines(lines)

    def _open(self) -> int:
        """The file's descriptor, at the end of its last complete row."""
        if self._file is None:
            try:
                file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                content = self._path.read_bytes()
                os.ftruncate(file, content.rfind(b"\n") + 1)
            except OSError as error:
                raise write_error(self._path, error) from error
            self._file, self._closing = file, weakref.finalize(self, os.close, file)
        return self._file
