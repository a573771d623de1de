"""Where a study is stored: Optuna's journal in the run directory, or a database."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from torchplug.errors import ConfigurationError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "study.log"
INSTALL = "a search needs Optuna: pip install 'torchplug[search]'"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's messages and its warnings of what is experimental."""
    optuna_log = logging.getLogger("optuna")
    level = optuna_log.level
    optuna_log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="optuna")
            warnings.filterwarnings("ignore", category=_experimental())
            yield
    finally:
        optuna_log.setLevel(level)


def refuse_missing() -> None:
    """Refuse to search where Optuna is not installed.

    Raises:
        ConfigurationError: with the remedy.
    """
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigurationError(INSTALL) from None


def _experimental() -> Any:
    from optuna.exceptions import ExperimentalWarning

    return ExperimentalWarning


class _Lock:
    """A journal's lock, which ends with its process: Optuna's own would outlive a kill."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        """Wait for it."""
        self._lock.acquire()
        return True

    def release(self) -> None:
        """Let others have it."""
        self._lock.release()


def open_journal(path: Path) -> BaseStorage:
    """The journal in a file, which is created if it does not exist.

    Raises:
        ConfigurationError: if it cannot be written.
    """
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    lock = _Lock(path.with_name(f".{path.name}.lock"))
    try:
        lock.acquire()
        try:
            _mend(path)
        finally:
            lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))  # type: ignore[arg-type]
    except OSError as error:
        raise ConfigurationError(f"cannot write the study {path}: {error.strerror}") from error


def _mend(path: Path) -> None:
    """Drop an incomplete last line, which a kill may have left."""
    if path.is_file():
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)


def open_database(url: str) -> BaseStorage:
    """The storage in a database.

    Args:
        url: SQLAlchemy's, such as `sqlite:///study.db` or `postgresql+psycopg://user@host/name`.

    Raises:
        ConfigurationError: if it cannot be opened or written.
    """
    if "://" not in url:
        raise ConfigurationError(
            f"--storage {url} is no URL of a database, such as sqlite:///study.db; without it the study is a file in "
            "the run directory"
        )
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with quiet():
            storage = RDBStorage(url)
            _refuse_read_only(storage)
        return storage
    except ImportError as error:
        raise ConfigurationError(f"--storage {url}: {' '.join(str(error).split())}; install the driver") from error
    except (SQLAlchemyError, StorageInternalError, OSError, ValueError, RuntimeError) as error:
        cause = getattr(error, "orig", None) or error
        raise ConfigurationError(
            f"--storage {url}: the database cannot be opened or written ({' '.join(str(cause).split())})"
        ) from error


def _refuse_read_only(storage: Any) -> None:
    """Write something and take it back."""
    from optuna.study import StudyDirection

    storage.delete_study(storage.create_new_study([StudyDirection.MINIMIZE]))
