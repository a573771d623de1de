"""Provenance of a run: code, versions, data, seed and command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from typing import Any

import torch

from torchplug.registry import Entry
from torchplug.registry.discovery import Plugin

_GIT_SECONDS = 5.0


def provenance(
    plugins: Iterable[Plugin], components: Iterable[Entry], fingerprint: str | None, seed: int | None
) -> dict[str, Any]:
    """Return a run's provenance, as plain types.

    Args:
        plugins: the results of discovery, loaded or not.
        components: the entries that the run uses.
        fingerprint: of the data's content (`TabularData.fingerprint`).
        seed: the run's, or None if it was not seeded.

    Returns:
        Started (UTC, ISO 8601), command, seed, data, versions, plugins, components, platform, and git: the
        working directory's commit and whether tracked files differ from it, or None outside a repository.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "seed": seed,
        "data": fingerprint,
        **{name: _version(name) for name in ("torchplug", "torch", "lightning", "torchmetrics")},
        "python": platform.python_version(),
        "plugins": [{"distribution": p.distribution, "version": p.version, "status": p.status} for p in plugins],
        "components": [
            {
                "family": entry.family.value,
                "name": entry.qualified_name,
                "distribution": entry.distribution,
                "version": entry.version,
            }
            for entry in components
        ],
        "platform": {
            "system": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            # Counting devices leaves CUDA uninitialised, as a later fork requires; querying names would not.
            "cuda": torch.version.cuda,
            "gpus": torch.cuda.device_count(),
        },
        "git": _git(),
    }


@cache
def _version(distribution: str) -> str:
    """Its version, whose file is read once."""
    return version(distribution)


def _git() -> dict[str, Any] | None:
    """Commit and whether tracked files differ; None without git, outside a repository, or after a timeout."""
    try:
        answer = subprocess.run(
            # Optional locks would disturb a git command that the user runs at the same time.
            ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "--untracked-files=no"],
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = answer.stdout.splitlines()
    (commit,) = (line.removeprefix("# branch.oid ") for line in lines if line.startswith("# branch.oid "))
    dirty = any(not line.startswith("#") for line in lines)
    return None if commit == "(initial)" else {"commit": commit, "dirty": dirty}
