"""How much memory this process takes, as Linux tells it."""

from __future__ import annotations

import re
from pathlib import Path


def resident() -> int:
    """In bytes, now."""
    return _status("VmRSS")


def peak() -> int:
    """In bytes, the most since the start or the last `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Measure the peak anew from here on."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None, f"/proc/self/status has no {field}"
    return 1024 * int(found[1])
