"""Run directories: created once per job, written by rank 0 only, and read back."""

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
from filelock import Timeout

from torchplug.bounded_yaml import read_yaml
from torchplug.errors import ConfigurationError
from torchplug.tracking.agreement import agree, is_rank_zero
from torchplug.tracking.checkpoint_file import write_checkpoint
from torchplug.tracking.stack import model_checkpoint
from torchplug.tracking.whole_files import locked, whole_file


class Run:
    """A run directory, `<root>/<recipe>/<time>-<id>/`.

        config.yaml  provenance.json  notes.txt  metrics.jsonl  coefficients.csv  outcome.json
        checkpoints/best.ckpt  checkpoints/last.ckpt  checkpoints/selected.ckpt

    A run of many models has `folds.parquet` and `checkpoints/stack.ckpt` instead of coefficients and checkpoints, and
    `checkpoints/ensemble.ckpt` if they predict as one.
    Names sort by time (UTC, to the millisecond). Files are written atomically: beside their final place,
    and then renamed. Properties read the files at each access, so that a run can be followed while it
    trains.

    Args:
        path: an existing directory; `create` makes a new one, `open` also checks that it is a run.

    Example:
        >>> import torchplug
        >>> for run in torchplug.runs("runs/mlp"):  # doctest: +SKIP
        ...     print(run.path.name, run.outcome["name"] if run.outcome else "unfinished")
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))

    @classmethod
    def create(cls, recipe: str, root: str | Path = "runs") -> Run:
        """Create the directory of a new run, one for all ranks (see `agreement`).

        Call it once per job, on every rank, after the input has been checked: refused input should leave no
        directory.

        Raises:
            ConfigurationError: if it cannot be created, or a rank does not receive its path.
        """
        return cls(agree(lambda: str(_make(Path(root) / recipe))))

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """Return the run in a directory.

        Raises:
            ConfigurationError: if the directory does not exist or is not a run.
        """
        run = cls(path)
        if not (run.path / "config.yaml").is_file():
            raise ConfigurationError(f"{path} is no run directory: it has no config.yaml")
        return run

    @property
    def outermost(self) -> Run:
        """The run of many models of which this is one; else this run."""
        return Run(self.path.parents[1]) if _is_part(self) else self

    @property
    def root(self) -> Path:
        """The folder of all runs."""
        return self.outermost.path.parents[1]

    def __repr__(self) -> str:
        return f"Run({os.path.relpath(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    # ------------------------------------------------------------------ content

    @property
    def recipe(self) -> str:
        """The name of the recipe, or of the fit."""
        return self.path.parent.name

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration, nested: model, data, trainer, tracking, seed_everything.

        Of many models, `model` is what all have in common, `configurations` the rest of each, and `folds` the number
        of rows of each.

        Raises:
            ConfigurationError: if it cannot be read.
        """
        return read_yaml(self.path / "config.yaml")

    @property
    def provenance(self) -> dict[str, Any]:
        """Command, versions, plugins, data and seed; empty before it is written."""
        return self.read_json("provenance.json") or {}

    @property
    def outcome(self) -> dict[str, Any] | None:
        """How training ended: name, reason, remedy, epochs, steps; None while the run is unfinished.

        Of many models, `models` is the same of each, with its configuration and fold.
        """
        return self.read_json("outcome.json")

    @property
    def notes(self) -> list[str]:
        """Notes about table and settings."""
        path = self.path / "notes.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []

    @property
    def metrics(self) -> polars.DataFrame:
        """The logged rows: step, epoch and a column per metric, null if a row lacks it.

        Many models have a row for each epoch, configuration and fold, and an ensemble at the end one of all members.
        Rows of later evaluations have the checkpoint's name in the column `evaluated`. A row that is being written is
        omitted.
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
        """The file of metrics, with one JSON object per row."""
        return self.path / "metrics.jsonl"

    @property
    def coefficients(self) -> polars.DataFrame | None:
        """A linear model's coefficients in original units; None if the run has none."""
        path = self.path / "coefficients.csv"
        return polars.read_csv(path) if path.is_file() else None

    @property
    def folds(self) -> polars.DataFrame | None:
        """The rows of each fold of many models: fold, part (training or validation), row; None without folds."""
        path = self.path / "folds.parquet"
        return polars.read_parquet(path) if path.is_file() else None

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The solution of a full-batch optimizer, or the checkpoint with the best monitored metric.

        The file does not exist before a full-batch fit has ended, or for a minibatch fit without validation.
        """
        return self.checkpoints / "best.ckpt"

    @property
    def selected(self) -> Path:
        """The first fit's best checkpoint, beside a best.ckpt that a refit has trained on the validation rows as well.

        The file does not exist without a refit.
        """
        return self.checkpoints / "selected.ckpt"

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch that ended; while the run trains, it may be a second older."""
        return self.checkpoints / "last.ckpt"

    @property
    def ensemble(self) -> Path:
        """The checkpoint of several models that predict as one (`Ensemble`)."""
        return self.checkpoints / "ensemble.ckpt"

    def unstack(self, configuration: int, fold: int, path: str | Path) -> None:
        """Write an ordinary checkpoint of one of many models, with the parameters of its last step.

        Args:
            configuration: its number, from 0.
            fold: its number, from 0.
            path: of the file, which `ComponentModule.load_from_checkpoint` and `torchplug.load` read.

        Raises:
            CheckpointError: if there is no such model, or it has not been trained yet.
            WriteError: if the file cannot be written.
        """
        write_checkpoint(model_checkpoint(self.path, configuration, fold), path)

    def keep_last_as_best(self) -> None:
        """Copy last.ckpt to best.ckpt; do nothing without a last.ckpt, as in a trial run.

        Raises:
            WriteError: if it cannot be written.
        """
        if self.last.is_file():
            _copy(self.last, self.best)

    def keep_best_as_selected(self) -> None:
        """Copy best.ckpt to selected.ckpt, before a refit replaces it.

        Raises:
            WriteError: if it cannot be written.
        """
        _copy(self.best, self.selected)

    def restore_selected(self) -> None:
        """Put selected.ckpt back as best.ckpt, where there is one: training goes on, and a refit is of what it was."""
        if self.selected.is_file():
            self.selected.replace(self.best)

    def write_config(self, text: str) -> None:
        """Write the resolved configuration, in YAML."""
        self._write("config.yaml", text)

    def write_yaml(self, name: str, text: str) -> None:
        """Write a configuration beside the run's own, such as best.yaml.

        Args:
            name: of the file.
            text: its content.
        """
        self._write(name, text)

    def write_provenance(self, record: Mapping[str, Any]) -> None:
        """Write the record of `provenance`; a resumed run appends it to the `resumed` of the first one."""
        if first := self.provenance:
            record = {**first, "resumed": [*first.get("resumed", []), record]}
        self._write("provenance.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def write_notes(self, notes: Sequence[str]) -> None:
        """Write notes about table and settings, one per line."""
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
        """Lock the directory against training by other processes, on rank 0; a lock ends with its process.

        Raises:
            ConfigurationError: if another process trains in it.
            WriteError: if the directory cannot be written to.
        """
        if not is_rank_zero():
            yield
            return
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locked(self.path / ".lock", timeout=0))
            except Timeout as error:
                raise ConfigurationError(
                    f"{self.path} is in use: another process trains in it; wait for its end, or interrupt it"
                ) from error
            yield

    def write_folds(self, table: polars.DataFrame) -> None:
        """Write which rows train and validate in each fold of many models."""
        if is_rank_zero():
            with whole_file(self.path / "folds.parquet") as file:
                table.write_parquet(file)

    def write_coefficients(self, table: polars.DataFrame) -> None:
        """Write a linear model's coefficients, in original units."""
        self.write_table("coefficients.csv", table)

    def write_table(self, name: str, table: polars.DataFrame) -> None:
        """Write a table as CSV, so that reading gives the same float64.

        Args:
            name: of the file, such as folds.csv.
            table: its rows.
        """
        self._write(name, table.write_csv())

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write plain values as JSON.

        Args:
            name: of the file, such as diagnosis.json.
            content: by name; without NaN and infinity.
        """
        self._write(name, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file's content; None if it is missing or damaged, because damaged files are rewritten.

        Args:
            name: of the file, such as outcome.json.
        """
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
    """Return the runs in a folder and below it, by time, newest last.

    Args:
        folder: such as `runs/mlp`, or `runs` for those of all recipes.
    """
    found = [Run(path.parent) for path in Path(folder).glob("**/config.yaml") if "checkpoints" not in path.parts]
    return sorted((run for run in found if not _is_part(run)), key=lambda run: run.path.name)


def _is_part(run: Run) -> bool:
    """Whether it lies in another run: that of one of many models, or a refit."""
    if run.path.name == "refit":
        return (run.path.parent / "config.yaml").is_file()
    return run.path.parent.name == "models" and (run.path.parents[1] / "config.yaml").is_file()


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as file, whole_file(target) as copy:
        shutil.copyfileobj(file, copy)


def _make(parent: Path) -> Path:
    while True:
        now = datetime.now(UTC)
        path = parent / f"{now:%Y%m%d-%H%M%S}.{now.microsecond // 1000:03d}-{secrets.token_hex(3)}"
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue  # another job took this name
        except OSError as error:
            raise ConfigurationError(
                f"cannot make {path}: {error.strerror}; make it writable, or start in another directory"
            ) from error
        return Path(os.path.abspath(path))
