"""What a stopped run has left behind: its directory, and the checkpoint to resume from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from torchplug.terminal import printable
from torchplug.tracking.run import Run


def what_is_left(directory: Run) -> str:
    """Say where a stopped run lies and which of its checkpoints is the last good one.

    A checkpoint is good if its weights and the validation loss of its epoch are finite; the newest of the good ones
    counts.

    Args:
        directory: the run's.
    """
    place = f"the run is {printable(os.path.relpath(directory.path))}"
    unsound = _epochs_without_finite_loss(directory.metrics_file)
    described = [_describe(file, unsound) for file in (directory.last, directory.best) if file.is_file()]
    if not described:
        return f"{place}, which has no checkpoint yet"
    good = [(epoch, name) for name, epoch, is_good in described if is_good]
    bad = [name for name, _, is_good in described if not is_good]
    left_out = f"; {' and '.join(bad)} had diverged already" if bad else ""
    if not good:
        return f"{place}, which has no good checkpoint{left_out}"
    epoch, name = max(good, key=lambda each: each[0])
    return f"{place}, its last good checkpoint {name} of epoch {epoch}{left_out}"


def _describe(file: Path, unsound: set[int]) -> tuple[str, int, bool]:
    """A checkpoint's name, its epoch from 0 as metrics.jsonl counts, and whether it is good."""
    name = f"checkpoints/{file.name}"
    try:
        content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        epoch = int(content["epoch"])
        finite = all(bool(value.isfinite().all()) for value in content["state_dict"].values())
    except Exception:  # damaged: there is a message to be finished
        return name, -1, False
    return name, epoch, finite and epoch not in unsound


def _epochs_without_finite_loss(metrics: Path) -> set[int]:
    """The epochs whose last validation gave no finite loss; JSON has null for it."""
    unsound: set[int] = set()
    if not metrics.is_file():
        return unsound
    for line in metrics.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if "val/loss" in row and row.get("epoch") is not None:
            (unsound.add if row["val/loss"] is None else unsound.discard)(int(row["epoch"]))
    return unsound
