"""Available memory, checked before large allocations."""

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


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an allocator has raised an exception, of the machine's memory or a GPU's."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or (isinstance(error, RuntimeError) and "allocate memory" in " ".join(str(error).split()))


def available_memory() -> int:
    """Return the bytes that this process can still allocate: the minimum over system, control groups and `ulimit`.

    If none of them can be read, the number is so large that it refuses nothing.
    """
    return max(0, min((*_of_system(), *_of_control_groups(), *_of_limits()), default=sys.maxsize))


def require_memory(needed: int, what: str, remedy: str) -> None:
    """Raise an error if an allocation would take more memory than is available.

    Args:
        needed: bytes.
        what: the allocation, for the message.
        remedy: what can be done instead.

    Raises:
        DataError: with the needed and available memory, and the remedy.
    """
    free = available_memory()
    if needed > free:
        raise DataError(f"{what} would take {size(needed)} of memory, and {size(free)} are free: {remedy}")


def size(count: int) -> str:
    """Return a number of bytes as text, such as 9.6 GB."""
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
    """Memory left in each control group of the process, those of containers included."""
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
    """Memory left by `ulimit -v`."""
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY:
        pages = [int(line.split()[0]) for line in _lines(Path("/proc/self/statm"))]
        yield limit - sum(pages) * os.sysconf("SC_PAGE_SIZE")


def _lines(path: Path) -> list[str]:
    """The lines of a system file; none if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
