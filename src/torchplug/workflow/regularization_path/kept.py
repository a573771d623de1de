"""What is done of a path, kept in its run directory, from which it is resumed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from torch import Tensor

from torchplug import interruption
from torchplug.errors import CheckpointError
from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint
from torchplug.tracking.run import Run

Stalled = tuple[float, str]
"""λ, and why there is no minimum."""

_PART = 20
"""Saving takes at most one part in so many of the time."""


@dataclass(frozen=True)
class Done:
    """How far one fold, or the model on all rows, has come.

    Args:
        solved: how many values of λ, from the largest on.
        points: the parameters of the last one (1, p), or of all of them (solved, p); None before the first.
        metrics: of the rows that validate, at each.
        stalled: where the optimizer did not converge.
        method: how minima were found, in words.
    """

    solved: int = 0
    points: Tensor | None = None
    metrics: tuple[float, ...] = ()
    stalled: tuple[Stalled, ...] = ()
    method: str = ""


@dataclass
class Kept:
    """The run directory of a path, made when there is something to keep, and locked until it is closed.

    Args:
        create: makes the directory, and writes what describes the run.
        identity: the settings on which results depend, by name.
        remedy: how to go on after an interruption.
        resumed: the run to go on with.
    """

    create: Callable[[], Run]
    identity: Mapping[str, Any]
    remedy: Callable[[Run], str]
    resumed: Run | None
    _run: Run | None = None
    _done: dict[str, Done] = field(default_factory=dict)
    _due: float = 0.0
    _open: ExitStack = field(default_factory=ExitStack)

    def __enter__(self) -> Self:
        """Read what was kept.

        Raises:
            ConfigurationError: if another process works on the run.
            CheckpointError: if the run is one of other settings.
        """
        self._due = time.monotonic() + 1.0
        if self.resumed is not None:
            self._begin(self.resumed)
            content = read_checkpoint(path_file(self.resumed))
            self._refuse_others(content["identity"])
            self._done = {name: Done(**done) for name, done in content["parts"].items()}
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    @property
    def run(self) -> Run:
        """The directory."""
        if self._run is None:
            self._begin(self.create())
        assert self._run is not None, "it is made"
        return self._run

    def done(self, part: str) -> Done:
        """How far a part has come."""
        return self._done.get(part, Done())

    def add(self, part: str, done: Done) -> None:
        """Take up how far a part has come; written now and then."""
        self._done[part] = done
        if time.monotonic() >= self._due:
            self.save()

    def save(self) -> None:
        """Write what is done.

        Raises:
            WriteError: if it cannot be written.
        """
        start = time.monotonic()
        content = {"identity": dict(self.identity), "parts": {name: vars(done) for name, done in self._done.items()}}
        self.run.checkpoints.mkdir(exist_ok=True)
        write_checkpoint(content, path_file(self.run))
        now = time.monotonic()
        self._due = now + (_PART - 1) * (now - start)

    def _begin(self, run: Run) -> None:
        self._open.enter_context(run.locked())
        self._run = run
        interruption.explain(lambda: f"; {self.remedy(run)}")

    def _refuse_others(self, before: Mapping[str, Any]) -> None:
        for name in sorted(before.keys() | self.identity.keys()):
            old, new = before.get(name), self.identity.get(name)
            if old != new:
                raise CheckpointError(
                    f"{self.run.path} is a path with {name} {old}, not {new}: resume with the same settings, or leave "
                    "out resume"
                )


def path_file(run: Run) -> Path:
    """The file of a run directory in which a path is kept."""
    return run.checkpoints / "path.ckpt"


def run_to_resume(path: str | Path, name: str, root: str | Path) -> Run:
    """The run that a text means: a run directory, or `last`, the newest of the family.

    Args:
        path: the text.
        name: the family.
        root: the folder of all runs.

    Raises:
        CheckpointError: if there is none.
    """
    if str(path) == "last":
        found = [run for own in sorted((Path(root) / name).glob("*/")) if path_file(run := Run(own)).is_file()]
        if not found:
            raise CheckpointError(f"no run of {name} in {root} can be resumed: leave out resume")
        return found[-1]
    if not path_file(run := Run(path)).is_file():
        raise CheckpointError(f"{path} is no path that can be resumed: checkpoints/path.ckpt is missing")
    return run
