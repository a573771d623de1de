"""The checkpoint that a fit or an evaluation starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torchplug.tracking.checkpoints import load_checkpoint
from torchplug.tracking.run import Run


@dataclass(frozen=True)
class Origin:
    """A checkpoint with its content, and the run that wrote it.

    Args:
        file: the checkpoint.
        run: the run directory that it lies in, if it lies in one.
        content: what the checkpoint holds, checked.
        note: which run it belongs to, where only `best` or `last` was asked for.
    """

    file: Path
    run: Run | None
    content: Mapping[str, Any]
    note: str | None = None

    @classmethod
    def of(cls, file: Path, resume: bool) -> Origin:
        """Read a checkpoint, and find the run directory that it lies in.

        Args:
            file: the checkpoint.
            resume: whether training is resumed from it.

        Raises:
            CheckpointError: if it is damaged or malformed, or torchplug did not write it.
        """
        content = load_checkpoint(file, resume)
        directory = file.parent.parent
        return cls(file, Run(directory) if (directory / "config.yaml").is_file() else None, content)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The configuration of the run that the checkpoint lies in; empty where it lies in none.

        Raises:
            ConfigurationError: if it cannot be read.
        """
        return {} if self.run is None else self.run.config
