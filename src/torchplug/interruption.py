"""Ctrl-C and SIGTERM, from the first import of a program to its end.

    | phase    | effect of a signal                                                                        |
    | -------- | ----------------------------------------------------------------------------------------- |
    | at once  | one line, exit status 130: while a program starts, prepares data, or finishes a run        |
    | deferred | it is noted, and `requested` is true: the training loop polls it at its boundaries         |
    | ending   | none: the process is about to end by itself, and is ended if that takes too long           |

A program (a recipe started as a script, or the command `torchplug`) handles signals from the import of this package
to its end. Elsewhere, as in a notebook, nothing is installed before `handled` is entered, a signal outside
`deferred` phases raises KeyboardInterrupt, and the previous handlers are restored afterwards.

The handler runs between two bytecodes of the main thread. A thread of a program enforces the deadlines: it ends the
process if the main thread is inside a long call.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells count it."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_AT_ONCE_SECONDS = 2.0
"""Timeout of the main thread's reaction outside training, in a call that cannot be interrupted."""
_BOUNDARY_SECONDS = 5.0
"""Timeout of a single process for reaching the end of a step, after which the step is broken off."""
_AGAIN_SECONDS = 2.0
"""Delay from which a second signal ends the process at once: launchers send a signal twice in quick succession."""
_ENDING_SECONDS = 6.0
"""Timeout of an interrupted process for ending by itself."""
_end_process = os._exit  # under this name it is not what a plugin finds while it is imported
_MAIN_PROGRAM = {"reports_errors"}
"""A script whose top level uses this name is a recipe."""


class Interrupted(BaseException):
    """Training stopped at a boundary because a signal asked for it."""


class _State:
    def __init__(self) -> None:
        self.program = False
        self.pid = os.getpid()
        self.installed = False
        self.requested: int | None = None
        self.since = 0.0
        self.deferred = False
        self.alone = True
        self.reached = False  # a boundary: what is saved there may take its time
        self.broken_off = False
        self.postponed = 0
        self.status: int | None = None  # set: the process is about to end with it
        self.name = ""
        self.speaks: Callable[[], bool] = lambda: os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
        self.remedy: Callable[[], str] = str
        self.before_exit: Callable[[], int | None] = lambda: None
        self.exiting = threading.Lock()


_state = _State()


# ---------------------------------------------------------------------- what a program does


def begin_program() -> None:
    """Handle signals from now to the end of the process, if it is a recipe's or that of the command `torchplug`."""
    if _state.installed or threading.current_thread() is not threading.main_thread() or not _is_program():
        return
    _state.program = True
    _install()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_keep_deadlines, args=(reading,), name="deadlines", daemon=True).start()
    atexit.register(_ignore)  # registered first, so called last: what is left of the end cannot be interrupted


def _is_program() -> bool:
    if sys.orig_argv[1:3] == ["-m", "torchplug"]:
        return True
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        names = frame.f_globals
        if names.get("__name__") == "__main__" and frame.f_code.co_name == "<module>" and "__file__" in names:
            used = set(frame.f_code.co_names)
            return bool(used & _MAIN_PROGRAM) or "torchplug.cli" in used
        frame = frame.f_back
    return False


@contextmanager
def handled(name: str, speaks: Callable[[], bool]) -> Iterator[None]:
    """Handle signals within; afterwards, in a program, only its end is left. Within another call it does nothing.

    Args:
        name: of the program, for messages.
        speaks: whether this process is the one that says that it was interrupted.
    """
    if _state.name:
        yield
        return
    _state.name, _state.speaks = f"{name}: ", speaks
    try:
        with handled_within():
            yield
    finally:
        if not _state.program:
            _state.__init__()  # type: ignore[misc]


@contextmanager
def handled_within() -> Iterator[None]:
    """Handle signals within, if no program does so, for a function that any program may call: messages name that."""
    if _state.installed or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _install()
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        _state.__init__()  # type: ignore[misc]


def is_program() -> bool:
    """Whether this process is a recipe's, or that of the command `torchplug`."""
    return _state.program


def is_handled() -> bool:
    """Whether SIGTERM and SIGINT come here."""
    return _state.installed


def explain(remedy: Callable[[], str]) -> None:
    """Set the function that returns the rest of a message about why training ended, such as how to resume."""
    _state.remedy = remedy


def message(text: str, error: bool = False) -> str:
    """One line that says why this program ends, and how to resume.

    Args:
        text: why.
        error: whether it is one.
    """
    return f"{_state.name}{'error: ' if error else ''}{text}{_state.remedy()}"


def before_exit(call: Callable[[], int | None]) -> None:
    """Set what is called before a signal ends the program at once; it may give another exit status than 130."""
    _state.before_exit = call


def will_end(status: int) -> None:
    """Note that the process ends with this status; after an interruption it is made to, if it takes too long."""
    _state.status, _state.since = status, time.monotonic()
    _state.deferred = False


def exit_now(status: int, line: str = "") -> None:
    """End this program at once, from any thread: buffers are written, and nothing else is done any more."""
    if not _state.exiting.acquire(blocking=False):
        return  # another thread is about to
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # the signal may have come in the middle of a print
            stream.flush()
    if line:
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())
    _end_process(status)


# ---------------------------------------------------------------------- what a training loop does


def defer(alone: bool) -> None:
    """From now on a signal is only noted.

    Args:
        alone: whether the training is in this process alone, whose step may be broken off after a few seconds.
    """
    _state.deferred, _state.alone = True, alone


def no_longer_defer() -> None:
    """From now on a signal ends the program at once."""
    _state.deferred = False


def requested() -> bool:
    """Whether a signal has asked for the end."""
    return _state.requested is not None


def reach_boundary() -> None:
    """Note that the loop is at a boundary and about to stop: saving is not broken off."""
    _state.reached = True


@contextmanager
def postponed() -> Iterator[None]:
    """Do within what should not be half done, such as a small file; a signal acts after it."""
    _state.postponed += 1
    try:
        yield
    finally:
        _state.postponed -= 1
        if _state.postponed == 0 and requested() and not _state.deferred and _state.status is None:
            _act()


# ---------------------------------------------------------------------- signals


def _install() -> dict[int, Any]:
    # what a shell started in the background ignores SIGINT, and stays so
    before: dict[int, Any] = {int(signum): signal.getsignal(signum) for signum in _SIGNALS}
    before = {signum: handler for signum, handler in before.items() if handler is not signal.SIG_IGN}
    for signum in before:
        signal.signal(signum, _handle)
    _state.installed, _state.pid = True, os.getpid()
    return before


def _ignore() -> None:
    for signum in _SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _handle(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _state.pid:  # a process forked from this one ends as if there were no handler
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
        return
    now = time.monotonic()
    first = _state.requested is None
    if first:
        _state.requested, _state.since = signum, now
    if _state.status is not None or _state.postponed:
        return
    if not _state.deferred:
        _act()
    elif _state.broken_off or (not first and now - _state.since > _AGAIN_SECONDS):
        if not _state.alone:
            _act()
        _state.since = now
        raise KeyboardInterrupt


def _act() -> None:
    if not _state.program:
        raise KeyboardInterrupt
    _end_program()


def _end_program() -> None:
    status = _state.before_exit()
    line = message("interrupted") if status is None and _state.speaks() else ""
    exit_now(INTERRUPTED if status is None else status, line)


def _keep_deadlines(signals: int) -> None:
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    while os.read(signals, 1)[0] not in _SIGNALS:
        pass
    came = time.monotonic()
    while True:
        time.sleep(0.05)
        now = time.monotonic()
        waited = now - max(came, _state.since)
        if _state.status is not None:
            if waited > _ENDING_SECONDS:
                exit_now(_state.status)
        elif not _state.deferred:
            if waited > (_BOUNDARY_SECONDS if _state.postponed else _AT_ONCE_SECONDS):
                _end_program()
        elif _state.alone and not _state.reached:
            if waited > _BOUNDARY_SECONDS and not _state.broken_off:
                _state.broken_off = True
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            elif waited > _BOUNDARY_SECONDS + _ENDING_SECONDS:
                _end_program()
