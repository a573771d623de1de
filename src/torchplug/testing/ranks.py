"""Two processes that train together, started once and used by all checks that need them."""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchplug.testing.record import NotRun

_START_SECONDS, _FIT_SECONDS = 180.0, 90.0
"""Bounds on the start of the processes, imports included, and on a fit: then they wait for each other."""


def both_ranks(job: Mapping[str, Any]) -> list[dict[str, Tensor]]:
    """Return the weights on each of two ranks after a fit.

    Args:
        job: parameters of `fits.small_fit`, plain.

    Raises:
        AssertionError: if the fit fails on a rank, or the ranks wait for each other.
        NotRun: if the processes cannot be started.
    """
    if _running and _running[0].path != _path():  # what they can import is what was so when they started
        _end()
    if not _running:
        _running.append(_Ranks())
    try:
        return _running[0].fit(job)
    except Exception:
        _end()
        raise


def _path() -> str:
    return os.pathsep.join(filter(None, sys.path))


class _Ranks:
    def __init__(self) -> None:
        self.path = _path()
        self._folder = tempfile.TemporaryDirectory()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
        common |= {"PYTHONPATH": self.path, "OMP_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "torchplug.testing.rank"],
                env={**os.environ, **common, "LOCAL_RANK": str(rank), "RANK": str(rank)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for rank in range(2)
        ]
        try:
            answers = self._answers(_START_SECONDS)
        except AssertionError as error:
            self.end()
            raise NotRun("two processes cannot be started") from error
        if any("error" in answer for answer in answers):
            self.end()
            raise NotRun(f"two processes cannot be started: {answers}")

    def fit(self, job: Mapping[str, Any]) -> list[dict[str, Tensor]]:
        files = [Path(self._folder.name) / f"weights.{rank}" for rank in range(2)]
        for process, file in zip(self._processes, files, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps({"job": job, "file": str(file)}) + "\n")
            process.stdin.flush()
        for rank, answer in enumerate(self._answers(_FIT_SECONDS)):
            if "error" in answer:
                raise AssertionError(f"a fit on two ranks fails on rank {rank}: {answer['error']}")
        return [torch.load(file, weights_only=True) for file in files]

    def _answers(self, seconds: float) -> list[dict[str, str]]:
        found = []
        for rank, process in enumerate(self._processes):
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], seconds)
            if not ready:
                raise AssertionError(
                    f"two ranks do not end a fit within {seconds:g} s: they wait for each other, as after a decision "
                    "by what only one of them knows"
                )
            line = process.stdout.readline()
            if not line:
                raise AssertionError(f"rank {rank} of two ends during a fit")
            found.append(json.loads(line))
        return found

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                with suppress(OSError):
                    stream.close()  # type: ignore[union-attr]
        self._folder.cleanup()


_running: list[_Ranks] = []


def _end() -> None:
    while _running:
        _running.pop().end()


atexit.register(_end)
