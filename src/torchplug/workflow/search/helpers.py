"""Processes that help with a search: each takes trials of the study in the run directory."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn

from torchplug import interruption
from torchplug.errors import ConfigurationError

_SECONDS = 0.1


class Helpers:
    """Processes that were started, and end with this one.

    Args:
        job: what they are to do, pickled.
        count: how many.
    """

    def __init__(self, job: bytes, count: int) -> None:
        threads = max(1, (os.cpu_count() or 1) // (count + 1))
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": str(threads),
        }
        self._errors = [tempfile.TemporaryFile() for _ in range(count)]  # noqa: SIM115 closed by close()
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "torchplug.workflow.search.helper"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=environment,
            )
            for errors in self._errors
        ]
        for process in self._processes:
            with suppress(BrokenPipeError):  # it has failed, which is noticed at the end
                assert process.stdin is not None
                process.stdin.write(job)
                process.stdin.flush()

    def wait(self) -> list[str]:
        """Wait for their ends, and interrupt them when this process is; what those said that failed."""
        told = False
        for process in self._processes:
            while process.poll() is None:
                if interruption.requested() and not told:
                    self.interrupt()
                    told = True
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_SECONDS)
        return [self._last_line(place) for place, process in enumerate(self._processes) if process.returncode]

    def interrupt(self) -> None:
        """Let them give back what they have not finished."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """End those that are left: they notice that nobody waits for them."""
        for process, errors in zip(self._processes, self._errors, strict=True):
            if process.stdin is not None:
                with suppress(BrokenPipeError):
                    process.stdin.close()
            process.wait()
            errors.close()

    def _last_line(self, place: int) -> str:
        self._errors[place].seek(0)
        lines = self._errors[place].read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"status {self._processes[place].returncode}"


@contextmanager
def helping(settings: Mapping[str, Any], count: int) -> Iterator[Helpers | None]:
    """Start helpers, which end with this block.

    Args:
        settings: of the search, by the names of its arguments.
        count: how many helpers.
    """
    if count == 0:
        yield None
        return
    helpers = Helpers(pickle.dumps(dict(settings)), count)
    try:
        yield helpers
    except BaseException:
        helpers.interrupt()
        raise
    finally:
        helpers.close()


def refuse_own_classes(settings: Mapping[str, Any]) -> None:
    """Refuse settings that other processes could not be given.

    Raises:
        ConfigurationError: naming what is in the way.
    """
    values = [*settings["config"].values(), *(settings["trainer"].get("callbacks") or [])]
    own = next((v for v in values if isinstance(v, nn.Module) or type(v).__module__ == "__main__"), None)
    if own is not None:
        raise ConfigurationError(
            f"--jobs above 1 trains in processes of their own, which cannot be given a {type(own).__name__} of yours: "
            "leave out jobs, or register it as a component"
        )


def end_with_parent() -> None:
    """Interrupt this process when the one that started it has ended."""

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin, whose lock would be held at exit
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, name="parent", daemon=True).start()
