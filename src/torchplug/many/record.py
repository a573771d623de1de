"""What is kept of the training of many models: nothing, or a run directory from which it is resumed."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import lightning
from torch import Tensor

from torchplug.checkpoint_record import KEY
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.many.configurations import Configuration
from torchplug.many.grouping import Grouping, Share
from torchplug.many.program import State
from torchplug.many.result import Fitted
from torchplug.tracking.agreement import is_rank_zero
from torchplug.tracking.checkpoint_file import read_checkpoint, write_checkpoint
from torchplug.tracking.jsonl import EVALUATED
from torchplug.tracking.row_file import RowFile
from torchplug.tracking.run import Run
from torchplug.tracking.stack import own_directory, stack_file

Model = tuple[int, int]
"""The number of its configuration and of its fold."""
_PART = 10
"""Checkpoints are written so rarely that they take at most one part in so many of the time."""


class Record:
    """Keeps nothing.

    Attributes:
        run: the run directory; None where there is none.
        remedy: how to go on after an interruption.
    """

    run: Run | None = None
    remedy = "fit again to train to the end"

    def state(self, program: int) -> State | None:
        """What a program goes on from; None if it begins."""
        return None

    def directory(self, model: Model) -> Run | None:
        """The run directory of a model that is trained by itself, which exists."""
        return None

    def log(self, epoch: int, models: Sequence[Model], steps: Sequence[int], metrics: Mapping[str, Tensor]) -> None:
        """Take up the metrics of an epoch.

        Args:
            epoch: its number.
            models: k models that trained in it.
            steps: optimizer steps that each has made.
            metrics: (k,) by name.
        """

    def save(self, program: int, state: Callable[[], State], ended: bool = False) -> None:
        """Take up a program's state, at once if it has ended, else now and then."""

    def finish(self, fitted: Mapping[Model, Fitted]) -> None:
        """Take up what became of all models."""


class RunRecord(Record):
    """Keeps a run directory: rows of metrics after each epoch, and one checkpoint of all models.

    Args:
        run: the directory, which no other process trains in.
        content: of the checkpoint; the states of programs are set in it.
        finish: is called when training is over.
    """

    def __init__(self, run: Run, content: dict[str, Any], finish: Callable[[Mapping[Model, Fitted]], None]) -> None:
        self.run: Run = run
        self.remedy = resuming(run)
        self._content = content
        self._finish = finish
        self._rows = RowFile(run.metrics_file)
        self._due = 0.0

    def begin(self) -> None:
        """Drop the rows of epochs that the checkpoints do not have behind them, and write the checkpoint.

        Rows of all models together, which are of none, are dropped too: a method writes them at its end. Those of later
        evaluations stay.
        """
        if is_rank_zero() and self.run.metrics_file.is_file():
            done, lines = epochs_done(self.run, self._content), self._rows.lines()
            kept = [line for line in lines if _is_done(json.loads(line), done)]
            if len(kept) < len(lines):
                self._rows.replace(kept)
        self._write()

    def state(self, program: int) -> State | None:
        """What a program goes on from; None if it begins."""
        state: State | None = self._content["programs"][program]["state"]
        return state

    def directory(self, model: Model) -> Run:
        """The run directory of a model that is trained by itself, which exists."""
        own = Run(own_directory(self.run.path, *model))
        if is_rank_zero():
            own.path.mkdir(parents=True, exist_ok=True)
        return own

    def log(self, epoch: int, models: Sequence[Model], steps: Sequence[int], metrics: Mapping[str, Tensor]) -> None:
        """Append a row for each model, all of them by one write."""
        columns = [[value if math.isfinite(value) else None for value in own.tolist()] for own in metrics.values()]
        rows = [
            {"step": step - 1, "epoch": epoch, "configuration": model[0], "fold": model[1]}
            | dict(zip(metrics, values, strict=True))
            for model, step, *values in zip(models, steps, *columns, strict=True)
        ]
        if is_rank_zero():
            self._rows.append(rows)

    def save(self, program: int, state: Callable[[], State], ended: bool = False) -> None:
        """Write the checkpoint, if that is due."""
        if ended or time.monotonic() >= self._due:
            self._content["programs"][program]["state"] = state()
            self._write()

    def finish(self, fitted: Mapping[Model, Fitted]) -> None:
        """Call what is to be done at the end."""
        if is_rank_zero():
            self._finish(fitted)

    def _write(self) -> None:
        start = time.monotonic()
        if is_rank_zero():
            write_checkpoint(self._content, stack_file(self.run.path))
        now = time.monotonic()
        self._due = now + (_PART - 1) * (now - start)


class BrokenOff(KeyboardInterrupt):
    """A signal broke off a long step; the run directory has all that was done before the last checkpoint.

    Args:
        run: the directory.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(f"a step was broken off: what was done before is kept; {resuming(run)}")
        self.run = run


def resuming(run: Run) -> str:
    """How to go on with a run."""
    return f"resume with ckpt_path={os.path.relpath(run.path)!r}"


def epochs_done(run: Run, content: Mapping[str, Any]) -> dict[Model, int]:
    """How many whole epochs each model has behind it.

    Args:
        run: the directory.
        content: of its checkpoint.
    """
    done: dict[Model, int] = {}
    for program in content["programs"]:
        epochs = 0 if program["state"] is None else program["state"]["position"][0]
        done |= {(number, fold): epochs for number in program["configurations"] for fold in program["folds"]}
    for own in (run.path / "models").glob("*-*"):
        number, _, fold = own.name.partition("-")
        done[int(number), int(fold)] = _epochs_of(Run(own))
    return done


def _epochs_of(run: Run) -> int:
    """How many the last checkpoint of one model has behind it; 0 without a checkpoint."""
    fit = read_checkpoint(run.last)[KEY].get("fit") if run.last.is_file() else None
    if fit is None:
        return 0
    epoch, _, stage = fit["position"]
    return int(epoch) + int(stage == "ended")


def _is_done(row: Mapping[str, Any], done: Mapping[Model, int]) -> bool:
    if EVALUATED in row:
        return True
    return "configuration" in row and bool(row["epoch"] < done.get((row["configuration"], row["fold"]), 0))


def new_content(configurations: Sequence[Configuration], grouping: Grouping, data: TabularData) -> dict[str, Any]:
    """The content of the checkpoint before any model is trained, as `tracking.stack` describes it."""
    numbers = [number for share in grouping.shares for number in share.configurations]
    return {
        KEY: {"version": version("torchplug")},
        "pytorch-lightning_version": lightning.__version__,
        "data": data.state_dict(),
        "configurations": {number: _described(configurations[number]) for number in dict.fromkeys(numbers)},
        "programs": [_program(share) for share in grouping.shares],
    }


def _described(configuration: Configuration) -> dict[str, Any]:
    constants: dict[str, Tensor] = {}
    if configuration.loss is not None:
        constants |= configuration.loss.state_dict(prefix="loss.")
    for number, regularizer in enumerate(configuration.regularizers):
        constants |= regularizer.state_dict(prefix=f"regularizers.{number}.")
    return {
        "hyper_parameters": configuration.hyper_parameters,
        "components": configuration.components.records(),
        "constants": constants,
    }


def _program(share: Share) -> dict[str, Any]:
    members = share.members
    folds: list[Any] = members.folds
    return {
        "configurations": list(share.configurations),
        "folds": list(share.folds),
        "preprocessing": [data.preprocessing.state() for data in folds],
        "outputs": members.loss.outputs(folds[0].preprocessing.info),
        "steps": [data.batches("train") for data in folds],
        "state": None,
    }


def adopted(content: dict[str, Any], stored: Mapping[str, Any], where: object) -> dict[str, Any]:
    """The content with the states of a run that is resumed.

    Raises:
        ConfigurationError: if the tables are not those of the run, or the models are grouped in another way.
    """
    if stored["data"] != content["data"]:
        then, now = stored["data"]["heights"], content["data"]["heights"]
        raise ConfigurationError(
            f"the tables are not those of {where} ({then} rows then, {now} now): training can only be continued on the "
            "same rows"
        )
    for program, old in zip(content["programs"], stored["programs"], strict=False):
        program["state"] = old["state"]
    if [_place(program) for program in content["programs"]] != [_place(program) for program in stored["programs"]]:
        raise ConfigurationError(f"{where} grouped its models in another way: resume with the versions that wrote it")
    return content


def _place(program: Mapping[str, Any]) -> tuple[list[int], list[int], list[int]]:
    return program["configurations"], program["folds"], program["steps"]
