"""How much memory there is, asked before much of it is taken."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from torchplug.errors import DataError

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60
"""Control groups write a number of about this size where there is no limit."""


def available_memory() -> int:
    """Bytes that this process can still allocate: the least that the system, its control groups and `ulimit` leave.

    Where none of them can be asked, a number that refuses nothing.
    """
    return max(0, min((*_of_system(), *_of_control_groups(), *_of_limits()), default=sys.maxsize))


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what would take more memory than there is.

    Args:
        needed: bytes.
        what: what would take them, for the message.
        remedy: what can be done instead.

    Raises:
        DataError: naming what is needed, what there is, and the remedy.
    """
    free = available_memory()
    if needed > free:
        raise DataError(f"{what} would take {size(needed)} of memory, and {size(free)} are free: {remedy}")


def size(count: int) -> str:
    """A number of bytes for a message, such as 9.6 GB."""
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB" if value < 1000 else f"{value:,.0f} TB"


def _of_system() -> Iterator[int]:
    lines = _lines(Path("/proc/meminfo"))
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if found:
        yield from found
        return
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        yield pages * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return


def _of_control_groups() -> Iterator[int]:
    """What each control group that the process is in leaves, those of containers among them."""
    for line in _lines(Path("/proc/self/cgroup")):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = _CGROUPS, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = _CGROUPS / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = root / path.lstrip("/")
        # a container sees its own group as the root of all
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                yield from _left(group, *names)


def _left(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[int]:
    limits, used = _lines(group / limit), _lines(group / usage)
    if not limits or not used or not limits[0].isdecimal() or int(limits[0]) >= _UNLIMITED:
        return
    cached = [int(line.split()[1]) for line in _lines(group / "memory.stat") if line.split()[:1] == [reclaimable]]
    yield int(limits[0]) - int(used[0]) + sum(cached)


def _of_limits() -> Iterator[int]:
    """What `ulimit -v` leaves."""
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        pages = [int(line.split()[0]) for line in _lines(Path("/proc/self/statm"))]
        yield limit - sum(pages) * os.sysconf("SC_PAGE_SIZE")


def _lines(path: Path) -> list[str]:
    """The lines of a file of the system's; none where there is no such file."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
