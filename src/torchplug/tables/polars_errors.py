"""Conversion of polars' errors on broken files."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator

import polars as pl

from torchplug.errors import DataError
from torchplug.tables.names import shown

_REASON_LENGTH = 200
_REFUSALS = (pl.exceptions.PolarsError, OSError, UnicodeDecodeError, OverflowError, MemoryError)


@contextlib.contextmanager
def refused_as(where: str, kind: str) -> Iterator[None]:
    """Convert any error of polars on a file into a `DataError`.

    A panic in polars' Rust code raises a BaseException that is not an `Exception`, after a report on standard error,
    which is suppressed.

    Args:
        where: the file's name, for messages.
        kind: what it is read as, such as CSV.

    Raises:
        DataError: in one line.
    """
    try:
        with _panic_reports_withheld():
            yield
    except _REFUSALS as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{where} cannot be read as {kind}: {shown(lines[0], _REASON_LENGTH)}") from error
    except BaseException as error:
        if not _is_panic(error):
            raise
        raise DataError(f"{where} cannot be read as {kind}: it is damaged") from error


def _is_panic(error: BaseException) -> bool:
    # which class it is depends on polars' version
    return type(error).__name__ == "PanicException"


_redirecting = threading.Lock()


@contextlib.contextmanager
def _panic_reports_withheld() -> Iterator[None]:
    """Capture the process's standard error, and drop it if Rust panicked.

    One thread at a time redirects; what another one reads meanwhile needs no redirection of its own.
    """
    if not _redirecting.acquire(blocking=False):
        yield
        return
    try:
        with contextlib.ExitStack() as stack:
            try:
                held = stack.enter_context(tempfile.TemporaryFile())
                original = os.dup(2)
            except OSError:  # no standard error, or no place for a file
                yield
                return
            stack.callback(os.close, original)
            panicked = False
            os.dup2(held.fileno(), 2)
            try:
                yield
            except BaseException as error:
                panicked = _is_panic(error)
                raise
            finally:
                os.dup2(original, 2)
                held.seek(0)
                if not panicked and (text := held.read()):
                    with contextlib.suppress(OSError):
                        os.write(2, text)
    finally:
        _redirecting.release()
