"""Which checkpoints a run keeps, and how one is found again by a word."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from typing_extensions import override

from torchplug.errors import CheckpointError, TorchplugError
from torchplug.module import ComponentModule
from torchplug.tracking.checkpoint_content import check_content, load_weights
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.checkpoint_parts import is_finite
from torchplug.tracking.run import Run


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint for a file of a run directory, which may have been moved or copied since.

    Of equally good models the last is kept, which has been trained for longest; Lightning keeps the first. What was the
    best value comes back with the checkpoint if the file that had it lies in the run directory.
    """

    @override
    def check_monitor_top_k(self, trainer: lightning.Trainer, current: Tensor | None = None) -> bool:
        equal = current is not None and self.best_model_score is not None and bool(current == self.best_model_score)
        return equal or super().check_monitor_top_k(trainer, current)

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        if not state_dict["best_model_path"] or not Path(here(state_dict["best_model_path"])).is_file():
            return
        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        models = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": models, "dirpath": self.dirpath})


def checkpoint_callbacks(
    directory: Run, monitor: str | None, mode: Literal["min", "max"] = "min"
) -> list[RunCheckpoint]:
    """Callbacks that keep `checkpoints/best.ckpt` and `checkpoints/last.ckpt`, overwriting both.

    Two of them, because `save_last=True` writes last.ckpt only when the watched metric improved.

    Args:
        directory: the run's.
        monitor: the metric that says which is best, e.g. "val/loss"; None: nothing is validated, and
            only the last is kept.
        mode: whether its smallest or its largest value is best.
    """
    folder = str(directory.checkpoints)  # hyper-parameters and checkpoints hold plain types only
    common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
    last = RunCheckpoint(filename=directory.last.stem, save_on_train_epoch_end=True, **common)
    if monitor is None:
        return [last]
    # right after a validation: at the end of an epoch that max_steps cut short the metric would be an older one
    best = RunCheckpoint(
        filename=directory.best.stem, monitor=monitor, mode=mode, save_on_train_epoch_end=False, **common
    )
    return [best, last]


def newest(recipe: str, root: str | Path = "runs") -> Run | None:
    """The newest run of a recipe that has a checkpoint, by the time in its name; None if none has."""
    runs = (Run(path) for path in sorted((Path(root) / recipe).glob("*/"), reverse=True))
    return next((run for run in runs if run.best.is_file() or run.last.is_file()), None)


def newer_without_checkpoint(run: Run) -> Run | None:
    """The newest run of the same recipe that is newer than this one and has no checkpoint; None if there is none."""
    newest_path = max(path for path in run.path.parent.iterdir() if path.is_dir())
    return Run(newest_path) if newest_path.name > run.path.name else None


def resolve_checkpoint(text: str, recipe: str, root: str | Path = "runs") -> Path:
    """Turn what a user wrote into a checkpoint file that can be loaded.

    Under Lightning's launcher the script runs again for each rank: put the file found into `sys.argv`,
    so that a run that ends meanwhile cannot give another rank another answer.

    Args:
        text: `best` or `last`, of the recipe's newest run that has any checkpoint; a run directory,
            meaning its best, else its last; or a file. (A file called `best` is `./best`.)
        recipe: whose runs to look through.
        root: where runs lie.

    Returns:
        An absolute path.

    Raises:
        CheckpointError: if there is none.
    """
    return _find(text, recipe, root).absolute()


def load_checkpoint(path: Path, resume: bool) -> dict[str, Any]:
    """Read a checkpoint and check that it holds what a command uses.

    Args:
        path: the file.
        resume: whether a fit goes on from it; else it is validated, tested or predicted from.

    Raises:
        CheckpointError: if it is damaged or malformed, or torchplug did not write it.
        ConfigurationError: for components that are not installed or do not go together.
    """
    with offering_another(path, resume):
        content = read_checkpoint(path)
        check_content(content, path, resume)
    return content


def load(source: str | Path | Run) -> ComponentModule:
    """The module of a checkpoint, ready to predict.

    Args:
        source: a checkpoint file; or a run or its directory, whose best checkpoint counts, else its last.

    Raises:
        CheckpointError: if there is none, or it is damaged, or torchplug did not write it.
        ConfigurationError: for components that are not installed.
    """
    file = resolve_checkpoint(str(Path(source.path if isinstance(source, Run) else source).absolute()), "")
    return module_of(load_checkpoint(file, resume=False), file)


def module_of(content: Mapping[str, Any], file: Path, **evaluation: Any) -> ComponentModule:
    """The module that a checkpoint's content describes, with its weights.

    Args:
        content: as `load_checkpoint` read it.
        file: the checkpoint, for messages.
        evaluation: parameters of ComponentModule that training does not depend on, in the place of the checkpoint's.

    Raises:
        CheckpointError: if the weights are not those of the components.
    """
    module = ComponentModule(**{**content["hyper_parameters"], **evaluation})
    module.on_load_checkpoint(dict(content))
    with offering_another(file, resume=False):
        load_weights(module, content, file)
    return module


@contextmanager
def offering_another(path: Path, resume: bool) -> Iterator[None]:
    """Complete an error about a checkpoint file by an intact checkpoint of the same run, or by there being none.

    Args:
        path: the file.
        resume: as for `load_checkpoint`.
    """
    try:
        yield
    except CheckpointError as error:
        run = Run(path.parent.parent)
        if path.parent != run.checkpoints:
            raise
        others = [other for other in sorted(path.parent.glob("*.ckpt"), key=_age) if other != path]
        intact = next((other for other in others if _intact(other, resume)), None)
        advice = "its run has no other that is intact"
        if intact is not None:
            advice = f"{intact.name} of the same run is intact: --ckpt_path {shlex.quote(os.path.relpath(intact))}"
        raise CheckpointError(f"{error}; {advice}") from error


def _age(path: Path) -> float:
    """The time since the file was written, in seconds and negated: the newest comes first."""
    return -path.stat().st_mtime


def _intact(path: Path, resume: bool) -> bool:
    try:
        content = read_checkpoint(path)
        check_content(content, path, resume)
    except TorchplugError:
        return False
    return all(is_finite(value) for value in content["state_dict"].values())


def _find(text: str, recipe: str, root: str | Path) -> Path:
    if text in ("best", "last"):
        run = newest(recipe, root)
        if run is None:
            raise CheckpointError(f"no run of {recipe} in {root} has a checkpoint: fit first, or name a file")
        wanted, other = (run.best, run.last) if text == "best" else (run.last, run.best)
        if not wanted.is_file():
            raise CheckpointError(f"the newest run, {run.path}, has no {text} checkpoint: ask for {other.stem}")
        return wanted
    path = Path(text)
    if path.is_dir():
        run = Run(path)
        for checkpoint in (run.best, run.last):
            if checkpoint.is_file():
                return checkpoint
        raise CheckpointError(
            f"{path} is no run directory with a checkpoint: checkpoints/best.ckpt and last.ckpt are missing"
        )
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: name a file or a run directory, or write best or last")
    return path
