"""The ranks of a job, observed from one of them: which exist, what they run, and how each ended."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch.distributed import DistError

from torchplug import interruption
from torchplug.errors import ConfigurationError, TorchplugError
from torchplug.processes.comparison import difference
from torchplug.processes.meeting import PATIENCE, Meeting

_LOOK_SECONDS = 0.5
"""Interval at which a rank polls for the end of others."""
_GRACE_SECONDS = 8.0
"""Timeout for ending by itself after another rank has ended; a collective operation usually fails at once."""
_CAUSE_SECONDS = 5.0
"""Timeout for detecting another rank's end after a collective operation has failed."""
_SAME_SECONDS = 3.0
"""By how much later rank 0 may meet the same error in a step that all make together."""
_LATER_SECONDS = 12.0
"""By how much later rank 0 may have imported everything and read its data."""
_STOPPED = 3
_SIGNALLED = (interruption.INTERRUPTED, -signal.SIGINT, -signal.SIGTERM)
_COLLECTIVE = ("gloo", "NCCL", "ProcessGroup", "onnection closed by peer", "the other process has", "Broken pipe")
"""What the messages of failed collective operations hold."""


class Verdict(NamedTuple):
    """Why the job ends."""

    status: int
    """The exit status of every rank."""
    text: str
    """The message; empty if the rank concerned has printed it itself."""


class RankEndedError(TorchplugError):
    """Another rank has ended, and the job with it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict
        self.exit_status = verdict.status


class Job:
    """The ranks that train together.

    Args:
        meeting: the store through which they communicate.
        children: the ranks that this process has started, by rank.
    """

    def __init__(self, meeting: Meeting, children: Mapping[int, subprocess.Popen[Any]] | None = None) -> None:
        self.rank, self.world = meeting.rank, meeting.world
        self._meeting = meeting
        self._children = dict(children or {})
        self._processes: dict[int, dict[str, Any]] = {}
        self._told_end = False
        self._met = False
        self._parted = threading.Event()
        self._watching = False
        interruption.before_exit(self.leave)

    # ------------------------------------------------------------------ before the first step

    def agree(self, key: str, make: Callable[[], str]) -> str:
        """Return rank 0's text on every rank.

        Raises:
            RankEndedError: if rank 0 has ended meanwhile.
        """
        if self.rank == 0:
            text = make()
            self._meeting.tell(key, text)
            return text
        told: str = self._wait_for(key, [0])[0]
        return told

    def compare(self, description: Mapping[str, str]) -> None:
        """Wait for all ranks, and refuse the job on all of them if their runs differ.

        Args:
            description: what this rank runs, by name.

        Raises:
            ConfigurationError: naming the rank that differs, and how; or a rank that has not arrived.
            RankEndedError: if another rank has ended meanwhile.
        """
        self._meeting.tell("runs", dict(description))
        descriptions = self._wait_for("runs", range(self.world))
        self._met = True
        if found := difference(descriptions):
            raise ConfigurationError(found)

    def _wait_for(self, key: str, ranks: Any) -> dict[int, Any]:
        deadline = time.monotonic() + PATIENCE.total_seconds()
        while True:
            told = self._meeting.told(key)
            missing = [rank for rank in ranks if rank not in told]
            if not missing:
                return told
            if (verdict := self.verdict()) is not None:
                raise RankEndedError(verdict)
            if time.monotonic() > deadline:
                minutes = int(PATIENCE.total_seconds() // 60)
                raise ConfigurationError(
                    f"rank {missing[0]} has not come within {minutes} minutes: start all {self.world} ranks"
                )
            time.sleep(0.05)

    # ------------------------------------------------------------------ the ends of ranks

    def tell_end(self, kind: str, status: int, text: str = "") -> None:
        """Publish why this rank ends.

        Args:
            kind: `refused`, `stopped`, `failed`, `interrupted`, or `lost` because another rank ended.
            status: its exit status.
            text: its message.
        """
        if self._told_end:
            return
        self._told_end = True
        with contextlib.suppress(DistError):  # where the store is gone, so is rank 0
            self._meeting.tell("end", {"kind": kind, "status": status, "text": text})

    def says(self, text: str) -> bool:
        """Whether this rank is the one to print an error that may have occurred on several.

        It waits some seconds for rank 0, which prints the error if it has it as well.
        """
        if self.rank == 0:
            return True
        deadline = time.monotonic() + (_SAME_SECONDS if self._met else _LATER_SECONDS)
        with contextlib.suppress(DistError):
            while time.monotonic() < deadline:
                if (first := self._meeting.told("end").get(0)) is not None:
                    if first["text"] == text:
                        return False
                    break
                if not self._met and 0 in self._meeting.told("runs"):
                    break
                time.sleep(0.05)
            return self._meeting.is_first(text)
        return False

    def verdict(self) -> Verdict | None:
        """Return why the job ends, as far as is known now; None while all other ranks exist."""
        ends = self._ends()
        for kind in ("refused", "stopped", "failed", "died", "interrupted"):
            for rank, end in sorted(ends.items()):
                if end["kind"] == kind:
                    return _judged(rank, end)
        return None

    def cause(self) -> Verdict | None:
        """Return why the job ends, after waiting up to a few seconds; None if no other rank has ended."""
        self.tell_end("lost", _STOPPED)
        deadline = time.monotonic() + _CAUSE_SECONDS
        while (verdict := self.verdict()) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        return verdict

    def is_speaker(self) -> bool:
        """Whether this is the lowest remaining rank."""
        ends = self._ends()
        gone = {rank for rank, end in ends.items() if end["kind"] != "lost"}
        return self.rank == min(set(range(self.world)) - gone)

    def _ends(self) -> dict[int, dict[str, Any]]:
        """Return how other ranks have ended, by rank, from their messages or their processes."""
        ends: dict[int, dict[str, Any]] = {}
        try:
            if len(self._processes) < self.world:
                self._processes = self._meeting.told("process")
            ends = self._meeting.told("end")
        except DistError:
            ends[0] = {"kind": "died", "status": None}  # it, or its node's agent, hosted the store
        ends.pop(self.rank, None)
        for rank in range(self.world):
            if rank != self.rank and rank not in ends and (end := self._end_of_process(rank)) is not None:
                ends[rank] = end
        return ends

    def _end_of_process(self, rank: int) -> dict[str, Any] | None:
        child = self._children.get(rank)
        if child is not None:
            status = child.poll()
            return None if status is None else _end_of_status(status)
        process = self._processes.get(rank)
        if process is None or process["host"] != socket.gethostname() or _is_running(process["pid"]):
            return None
        return {"kind": "died", "status": None}

    # ------------------------------------------------------------------ while they train together

    def watch(self) -> None:
        """Poll for the end of other ranks until `part`; end this one if it does not end by itself."""
        if not self._watching:
            self._watching = True
            threading.Thread(target=self._watch, name="ranks", daemon=True).start()

    def part(self) -> None:
        """Stop watching other ranks, which may end from now on."""
        self._parted.set()

    def _watch(self) -> None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        while not self._parted.wait(_LOOK_SECONDS):
            if self.verdict() is not None and not self._parted.wait(_GRACE_SECONDS):
                verdict = self.cause() or Verdict(_STOPPED, "")
                self._end_children(0.0)
                spoken = verdict.text if self.is_speaker() else ""
                is_error = verdict.status != interruption.INTERRUPTED
                interruption.exit_now(verdict.status, interruption.message(spoken, is_error) if spoken else "")

    # ------------------------------------------------------------------ this rank ends

    def leave(self) -> int | None:
        """Publish that a signal ends this rank; return another rank's exit status, if that is the cause."""
        found: list[Verdict | None] = []

        def tell() -> None:
            found.append(self.verdict())
            self.tell_end("interrupted", interruption.INTERRUPTED)

        telling = threading.Thread(target=tell, daemon=True)
        telling.start()
        telling.join(1.0)
        self.part()
        for child in self._children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        self._end_children(3.0)
        verdict = found[0] if found else None
        if verdict is None or verdict.status == interruption.INTERRUPTED:
            return None
        if verdict.text and self.is_speaker():
            interruption.exit_now(verdict.status, interruption.message(verdict.text, error=True))
        return verdict.status

    def close(self) -> None:
        """Wait for the ranks that this process has started, and end those that do not end by themselves."""
        self.part()
        self._end_children(_GRACE_SECONDS + 4.0)

    def _end_children(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for end in (lambda child: None, subprocess.Popen.terminate, subprocess.Popen.kill):
            left = [child for child in self._children.values() if child.poll() is None]
            for child in left:
                end(child)
            while left and time.monotonic() < deadline:
                left = [child for child in left if child.poll() is None]
                time.sleep(0.02)
            deadline = time.monotonic() + 3.0


def is_collective_failure(error: BaseException) -> bool:
    """Whether an error, or its cause, is a failed collective operation, as after another rank's end."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DistError):
            return True
        if isinstance(cause, RuntimeError) and any(text in str(cause) for text in _COLLECTIVE):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


@contextmanager
def attributed() -> Iterator[None]:
    """Raise RankEndedError within for a collective operation that has failed because another rank has ended."""
    try:
        yield
    except Exception as error:
        job = current()
        verdict = job.cause() if job is not None and is_collective_failure(error) else None
        if verdict is None:
            raise
        raise RankEndedError(verdict) from error


_current: list[Job] = []


def current() -> Job | None:
    """The job of which this process is a rank; None for a process that trains alone.

    Raises:
        ConfigurationError: if the launcher's environment names an address where no store can be reached.
    """
    if not _current:
        try:
            meeting = Meeting.of_environment()
        except DistError as error:
            where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
            raise ConfigurationError(
                f"the ranks cannot meet at {where} (MASTER_ADDR, MASTER_PORT): {str(error).splitlines()[0]}"
            ) from error
        if meeting is not None:
            _current.append(Job(meeting))
    return _current[0] if _current else None


def begin(job: Job) -> Job:
    """Make a job the current one."""
    _current[:] = [job]
    return job


def end() -> None:
    """Wait for the ranks that this process has started, and forget the job."""
    if _current:
        _current.pop().close()


def _end_of_status(status: int) -> dict[str, Any]:
    if status in _SIGNALLED:
        return {"kind": "interrupted", "status": interruption.INTERRUPTED}
    return {"kind": "died", "status": status}


def _judged(rank: int, end: Mapping[str, Any]) -> Verdict:
    kind, status = end["kind"], end["status"]
    if kind == "failed":
        return Verdict(status, f"rank {rank} failed, and its traceback says why: {end['text']}")
    if kind == "interrupted":
        return Verdict(status, "interrupted")
    if kind != "died":
        return Verdict(status, "")
    if status is None:
        return Verdict(_STOPPED, f"rank {rank} has ended without a word: killed, or out of memory")
    if status < 0:
        with contextlib.suppress(ValueError):
            return Verdict(_STOPPED, f"rank {rank} was killed by {signal.Signals(-status).name}")
    return Verdict(_STOPPED, f"rank {rank} ended early, with exit status {status}")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a process that its parent has not waited for still has a number
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return not Path("/proc/self").exists()
