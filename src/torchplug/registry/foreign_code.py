"""Code of plugins that is imported or called as a hook: named if it is slow, and without effect on global state."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from torchplug import interruption
from torchplug.errors import PluginError, TorchplugError
from torchplug.registry.global_state import preserved
from torchplug.registry.permissions import BLOCK_LIST
from torchplug.terminal import printable

PATIENCE = 2.0
"""Seconds after which code that is still running is named on standard error."""


def one_line(error: BaseException) -> str:
    """An exception's type and text, without line breaks."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextmanager
def foreign_code(distribution: str, version: str, what: str) -> Iterator[list[str]]:
    """Run a plugin's code within: global state that it changes is restored, and `os._exit` does not end the process.

    Args:
        distribution: the plugin's.
        version: the distribution's.
        what: the code, such as its module, for the line on standard error that is printed after two seconds.

    Yields:
        A list that holds the names of changed global state afterwards.
    """
    with _named_if_slow(distribution, version, what), _exit_refused(), preserved() as changed:
        yield changed


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turn whatever a plugin's code raises into a PluginError, except the user's Ctrl-C."""
    try:
        yield
    except TorchplugError as error:
        raise error if isinstance(error, PluginError) else PluginError(f"{what}: {one_line(error)}") from error
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what}: {one_line(error)}") from error
    except KeyboardInterrupt as error:
        if not interruption.is_handled() or interruption.requested():
            raise
        raise PluginError(f"{what}: {one_line(error)}") from error


@contextmanager
def _named_if_slow(distribution: str, version: str, what: str) -> Iterator[None]:
    line = (
        f"torchplug: {distribution} {version} has been importing {what} for {PATIENCE:g} s; "
        f"{BLOCK_LIST}={distribution} leaves it out"
    )
    timer = threading.Timer(PATIENCE, lambda: print(printable(line), file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _exit_refused() -> Iterator[None]:
    """Make `os._exit` raise SystemExit in this thread; other threads, and forked processes, may call it."""
    original, here, inside = os._exit, (os.getpid(), threading.get_ident()), True

    def refuse(status: Any = 0) -> NoReturn:
        if inside and (os.getpid(), threading.get_ident()) == here:
            raise SystemExit(f"os._exit({status}) ends the process")
        original(status)

    os._exit = refuse
    try:
        yield
    finally:
        inside = False
        os._exit = original
