"""A run directory: made once per job, written by rank 0 alone, and read back."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars
from filelock import FileLock, Timeout

from torchplug.bounded_yaml import read_yaml
from torchplug.errors import ConfigurationError
from torchplug.tracking.agreement import agree, is_rank_zero
from torchplug.tracking.whole_files import whole_file, write_error


class Run:
    """`<root>/<recipe>/<time>-<id>/`, with everything that one run leaves behind.

        config.yaml  provenance.json  notes.txt  metrics.jsonl  coefficients.csv  outcome.json
        checkpoints/best.ckpt  checkpoints/last.ckpt

    Names sort by time (UTC, to the millisecond). Files appear whole or not at all: they are written
    beside their place and then moved there. Properties read the files each time they are asked, so that
    a run can be followed while it trains.

    Args:
        path: a directory that exists; `create` makes a new one, `open` refuses what is no run.

    Example:
        >>> import torchplug
        >>> for run in torchplug.runs("runs/mlp"):  # doctest: +SKIP
        ...     print(run.path.name, run.outcome["name"] if run.outcome else "unfinished")
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))

    @classmethod
    def create(cls, recipe: str, root: str | Path = "runs") -> Run:
        """Make the directory of a new run, the same one on every rank (`agreement` says how).

        Call it once per job, on every rank, when the input has been found good: what is refused should leave
        no directory.

        Raises:
            ConfigurationError: if it cannot be made, or if a rank cannot learn which one it is.
        """
        return cls(agree(lambda: str(_make(Path(root) / recipe))))

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The run in a directory.

        Raises:
            ConfigurationError: if the directory does not exist, or holds no run.
        """
        run = cls(path)
        if not (run.path / "config.yaml").is_file():
            raise ConfigurationError(f"{path} is no run directory: it has no config.yaml")
        return run

    def __repr__(self) -> str:
        return f"Run({os.path.relpath(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    # ------------------------------------------------------------------ what it holds

    @property
    def recipe(self) -> str:
        """The name of the recipe whose run this is."""
        return self.path.parent.name

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, nested: model, data, trainer, tracking, seed_everything.

        Raises:
            ConfigurationError: if it cannot be read.
        """
        return read_yaml(self.path / "config.yaml")

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the run comes from: command, versions, plugins, data; empty before it is written."""
        return self._read_json("provenance.json") or {}

    @property
    def outcome(self) -> dict[str, Any] | None:
        """How training ended: name, reason, remedy, epochs, steps; None while it has not."""
        return self._read_json("outcome.json")

    @property
    def notes(self) -> list[str]:
        """What was noticed in table and settings."""
        path = self.path / "notes.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []

    @property
    def metrics(self) -> polars.DataFrame:
        """The logged rows: step, epoch and a column per metric, null where a row has none.

        Rows of evaluations after training have the checkpoint's name in the column `evaluated`. A row that is being
        written is left out.
        """
        rows = []
        if self.metrics_file.is_file():
            for line in self.metrics_file.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    rows.append(json.loads(line))
        names = dict.fromkeys(["step", "epoch", *(name for row in rows for name in row)])
        return polars.from_dicts(rows, schema=list(names), infer_schema_length=None) if rows else polars.DataFrame()

    @property
    def metrics_file(self) -> Path:
        """One JSON object a row, as `JsonlLogger` writes them."""
        return self.path / "metrics.jsonl"

    @property
    def coefficients(self) -> polars.DataFrame | None:
        """A linear model's coefficients in original units; None where the run has none."""
        path = self.path / "coefficients.csv"
        return polars.read_csv(path) if path.is_file() else None

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The solution of a full-batch optimizer, or the checkpoint with the best watched metric.

        There is none where a full-batch fit has not ended, or a minibatch fit validates nothing.
        """
        return self.checkpoints / "best.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch that ended."""
        return self.checkpoints / "last.ckpt"

    def keep_last_as_best(self) -> None:
        """Copy last.ckpt to best.ckpt; without a last.ckpt nothing is done, as in a trial run that saves none.

        Raises:
            WriteError: if it cannot be written.
        """
        if self.last.is_file():
            with self.last.open("rb") as source, whole_file(self.best) as copy:
                shutil.copyfileobj(source, copy)

    def write_config(self, text: str) -> None:
        """Write the resolved configuration, in YAML."""
        self._write("config.yaml", text)

    def write_provenance(self, record: Mapping[str, Any]) -> None:
        """Write where this run comes from, as `provenance` found it; a resumed run keeps the first record.

        Later records are appended to its `resumed`.
        """
        if first := self.provenance:
            record = {**first, "resumed": [*first.get("resumed", []), record]}
        self._write("provenance.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def write_notes(self, notes: Sequence[str]) -> None:
        """Write what was noticed in table and settings, a note a line."""
        self._write("notes.txt", "".join(f"{note}\n" for note in notes))

    def write_outcome(self, record: Mapping[str, Any]) -> None:
        """Write how training ended: the last file of a finished run."""
        self._write("outcome.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    @property
    def finished_at(self) -> int | None:
        """The number of optimizer steps at which the run was finished; None while it is not."""
        with contextlib.suppress(KeyError, TypeError, ValueError):
            return int((self.outcome or {})["steps"])
        return None

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process train in this directory, on rank 0; a process that dies leaves it unlocked.

        Raises:
            ConfigurationError: if another process trains in it.
            WriteError: if the directory cannot be written to.
        """
        if not is_rank_zero():
            yield
            return
        path = self.path / ".lock"
        try:
            lock = FileLock(path, timeout=0)
            lock.acquire()
        except Timeout as error:
            raise ConfigurationError(
                f"{self.path} is in use: another process trains in it; wait for its end, or interrupt it"
            ) from error
        except OSError as error:
            raise write_error(path, error) from error
        try:
            yield
        finally:
            lock.release()

    def write_coefficients(self, table: polars.DataFrame) -> None:
        """Write a linear model's coefficients, in original units, so that reading gives the same float64."""
        self._write("coefficients.csv", table.write_csv())

    def _read_json(self, name: str) -> dict[str, Any] | None:
        """A file's content; None where it is missing or damaged: damaged files are written again."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            content: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
            return content
        return None

    def _write(self, name: str, text: str) -> None:
        if not is_rank_zero():
            return
        with whole_file(self.path / name) as file:
            file.write(text.encode())


def runs(folder: str | Path = "runs") -> list[Run]:
    """The runs in a folder and those below it, by time, newest last.

    Args:
        folder: such as `runs/mlp`, or `runs` for those of all recipes.
    """
    found = [Run(path.parent) for path in Path(folder).glob("**/config.yaml") if "checkpoints" not in path.parts]
    return sorted(found, key=lambda run: run.path.name)


def _make(parent: Path) -> Path:
    while True:
        now = datetime.now(UTC)
        path = parent / f"{now:%Y%m%d-%H%M%S}.{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue  # another job took this very name
        except OSError as error:
            raise ConfigurationError(
                f"cannot make {path}: {error.strerror}; make it writable, or start in another directory"
            ) from error
        return Path(os.path.abspath(path))
