"""The processes that work in a run directory: which of them are alive."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from torchplug.tracking.whole_files import locked, write_error


class Workers:
    """Processes that have worked in a run directory, each known by a lock that ends with it.

    Args:
        folder: of the locks.

    Attributes:
        own: the name of this process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.own = f"{folder.parent.name}/{secrets.token_hex(4)}"

    @contextmanager
    def present(self) -> Iterator[None]:
        """Hold the lock of this process.

        Raises:
            WriteError: if it cannot be written.
        """
        path = self._file(self.own)
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        with locked(path):
            yield

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Let no other process of this run directory take trials meanwhile."""
        with locked(self._folder / "taking.lock"):
            yield

    def knows(self, name: str) -> bool:
        """Whether a process has worked in this run directory."""
        return self._file(name).is_file()

    def has_ended(self, name: str) -> bool:
        """Whether a process of this run directory has ended; False for those of others, of which nothing is known."""
        if name == self.own or not self.knows(name):
            return False
        try:
            with locked(self._file(name), timeout=0):
                return True
        except Timeout:
            return False

    def _file(self, name: str) -> Path:
        run, _, own = name.partition("/")
        return self._folder / f"{own}.lock" if run == self._folder.parent.name else self._folder / "none"
