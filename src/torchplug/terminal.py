"""Text that is safe to print, and standard streams whose failure does not end a run."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import select
import sys
import warnings
from typing import Any

from typing_extensions import override

_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""Characters that control a terminal or reorder text: C0, C1, line separators, bidirectional overrides, surrogates."""


def printable(text: str, lines: bool = False) -> str:
    r"""Return text with control characters replaced by escape sequences, so that it cannot control a terminal.

    Args:
        text: any text: names, paths, labels, messages of other packages.
        lines: whether newlines are kept as layout; otherwise they are escaped as well.

    >>> printable("a\x1b[2Jb\nc")
    'a\\x1b[2Jb\\nc'
    """
    return _HIDDEN.sub(lambda match: match[0] if lines and match[0] == "\n" else _escaped(match[0]), text)


def one_line(text: str) -> str:
    """Return a message as one printable line, runs of white space as single spaces."""
    return printable(" ".join(text.split()))


def shortened(text: str, length: int = 2000) -> str:
    """Return a text without its middle if it is longer than `length` characters."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half]} […] {text[-half:]}"


def _escaped(character: str) -> str:
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    # \u for all but C0 is what JSON understands too, and C0 is escaped in JSON already
    return named or (f"\\x{ord(character):02x}" if character < " " else f"\\u{ord(character):04x}")


class PrintableFormatter(logging.Formatter):
    """Formats log records as one printable line each."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


def print_warnings_in_one_line() -> None:
    """Make Python format warnings as one printable line each, since they quote column names and paths."""
    original = warnings.formatwarning
    if getattr(original, "in_one_line", False):
        return

    def formatted(*arguments: Any, **settings: Any) -> str:
        return one_line(original(*arguments, **settings)) + "\n"

    formatted.in_one_line = True  # type: ignore[attr-defined]
    warnings.formatwarning = formatted


class _Surviving(io.RawIOBase):
    """A raw stream that drops what cannot be written, and keeps the first error.

    Args:
        raw: the unbuffered file.
    """

    def __init__(self, raw: Any) -> None:
        super().__init__()
        self._raw = raw
        self.trouble: OSError | None = None

    @override
    def writable(self) -> bool:
        return True

    @override
    def fileno(self) -> int:
        return int(self._raw.fileno())

    @override
    def isatty(self) -> bool:
        return bool(self._raw.isatty())

    @override
    def write(self, data: Any) -> int:
        try:
            written = self._raw.write(data)
            while written is None:  # a non-blocking terminal or pipe that is full
                select.select([], [self.fileno()], [])
                written = self._raw.write(data)
        except (OSError, ValueError) as error:  # ValueError: the file was closed
            self.trouble = self.trouble or (
                error if isinstance(error, OSError) else OSError(errno.EBADF, "it is closed")
            )
            return len(data)
        return int(written)


def protect_streams() -> None:
    """Make standard output and error safe for the rest of the process: print no longer raises.

    Characters that the encoding lacks are written as escape sequences. A closed pipe (`| head`), a full disk or a
    closed descriptor loses text and nothing else. Streams that were replaced, as by a test, are left unchanged.
    """
    _occupy_standard_descriptors()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the descriptor was closed when Python started
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 for the rest of the process
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _surviving(stream))


def lost_output() -> OSError | None:
    """Return the error by which standard output lost text, such as a full disk; None if nothing was lost or the reader
    closed the pipe.
    """
    try:
        sys.stdout.flush()
        raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    except ValueError:  # closed or detached
        return None
    trouble = raw.trouble if isinstance(raw, _Surviving) else None
    return None if trouble is None or trouble.errno == errno.EPIPE else trouble


def _surviving(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    raw = _Surviving(getattr(stream.buffer, "raw", stream.buffer))
    try:
        stream.flush()
    except OSError as error:
        raw.trouble = error
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _occupy_standard_descriptors() -> None:
    """Open the null device for closed standard descriptors, whose numbers the next files would get."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
