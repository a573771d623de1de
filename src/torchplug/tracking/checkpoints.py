"""Checkpoints of a run: which are kept, how they are found, and loading of modules."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from typing_extensions import override

from torchplug.checkpoint_record import CALIBRATION, KEY
from torchplug.errors import CheckpointError, ConfigurationError, TorchplugError
from torchplug.evaluation.calibration import Calibration
from torchplug.module import ComponentModule
from torchplug.tracking.checkpoint_content import check_content, load_weights
from torchplug.tracking.checkpoint_entries import is_finite
from torchplug.tracking.checkpoint_file import read_checkpoint
from torchplug.tracking.checkpoint_versions import version_notes
from torchplug.tracking.ensemble import Ensemble, is_ensemble, models_in
from torchplug.tracking.run import Run
from torchplug.tracking.stack import model_checkpoint, stack_file
from torchplug.tracking.throttled_io import can_skip_saving


class RunCheckpoint(ModelCheckpoint):
    """ModelCheckpoint for a file of a run directory, which may have been moved or copied.

    Of equally good models the last is kept, which has been trained for longest; Lightning keeps the first. The best
    value is restored with a checkpoint if its file is in the run directory. Not every one of several short epochs is
    saved at its end, see `can_skip_saving`.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._state_key = super().state_key

    @property
    @override
    def state_key(self) -> str:
        return self._state_key  # Lightning reads it before each hook; building it takes longer than the hook

    @override
    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if not can_skip_saving(trainer, self.best_model_path):
            super().on_train_epoch_end(trainer, pl_module)

    @override
    def check_monitor_top_k(self, trainer: lightning.Trainer, current: Tensor | None = None) -> bool:
        equal = current is not None and self.best_model_score is not None and bool(current == self.best_model_score)
        return equal or super().check_monitor_top_k(trainer, current)

    @override
    def _monitor_candidates(self, trainer: lightning.Trainer) -> dict[str, Tensor]:
        """The monitored metric, epoch and step: copying all metrics, as Lightning does, would take most of a save."""
        candidates = {"epoch": torch.tensor(trainer.current_epoch), "step": torch.tensor(trainer.global_step)}
        if self.monitor is None:
            return candidates
        if self.monitor not in trainer.callback_metrics:
            return super()._monitor_candidates(trainer)
        return {**candidates, self.monitor: trainer.callback_metrics[self.monitor].clone()}

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
    """Return callbacks that save `checkpoints/best.ckpt` and `checkpoints/last.ckpt`, overwriting both.

    There are two, because `save_last=True` writes last.ckpt only when the monitored metric improved.

    Args:
        directory: the run.
        monitor: the metric of the best checkpoint, such as "val/loss"; None: nothing is validated, and only
            the last is saved.
        mode: whether the smallest or the largest value is best.
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
    """Return the newest run of a recipe with a checkpoint, by the time in its name; None if there is none."""
    runs = (Run(path) for path in sorted((Path(root) / recipe).glob("*/"), reverse=True))
    return next((run for run in runs if any(file.is_file() for file in (run.best, run.last, run.ensemble))), None)


def newer_without_checkpoint(run: Run) -> Run | None:
    """Return the recipe's newest run if it is newer than this one, and so has no checkpoint; else None."""
    newest_path = max(path for path in run.path.parent.iterdir() if path.is_dir())
    return Run(newest_path) if newest_path.name > run.path.name else None


def resolve_checkpoint(text: str, recipe: str, root: str | Path = "runs") -> Path:
    """Return the checkpoint file that a user's text refers to.

    Under Lightning's launcher the script runs again for each rank: put the file into `sys.argv`, so that
    all ranks use it even if another run ends meanwhile.

    Args:
        text: `best` or `last`, of the recipe's newest run that has any checkpoint (both its ensemble, if it is one); a
            run directory, meaning its best, else its last, else its ensemble; or a file. (A file called `best` is
            `./best`.)
        recipe: the recipe whose runs are searched.
        root: the folder of all runs.

    Returns:
        An absolute path.

    Raises:
        CheckpointError: if there is none.
    """
    return _find(text, recipe, root).absolute()


def load_checkpoint(path: Path, resume: bool) -> dict[str, Any]:
    """Read a checkpoint and validate what a command uses of it.

    Args:
        path: the file.
        resume: whether a fit is resumed from it; otherwise it is used for validation, test or prediction.

    Raises:
        CheckpointError: if it is damaged or malformed, or torchplug did not write it.
        ConfigurationError: for components that are not installed or do not go together.
    """
    with offering_another(path, resume):
        content = read_checkpoint(path)
        check_content(content, path, resume)
    return content


def load(source: str | Path | Run, configuration: int | None = None, fold: int = 0) -> ComponentModule | Ensemble:
    """Return the module of a checkpoint, or the ensemble, ready to predict.

    Warns if torchplug or a plugin is installed in another version than the one that made it.

    Args:
        source: a checkpoint file; or a run or its directory, of which the best checkpoint is used, else the last, else
            the ensemble of its folds.
        configuration: which configuration of a run of many models, from 0; its parameters are those of the last step.
        fold: and in which fold, from 0.

    Raises:
        CheckpointError: if there is none, or it is damaged, or torchplug did not write it.
        ConfigurationError: for components that are not installed.
    """
    directory = source.path if isinstance(source, Run) else Path(source)
    if configuration is not None:
        file, content = stack_file(directory), model_checkpoint(directory, configuration, fold)
    elif stack_file(directory).is_file() and not Run(directory).ensemble.is_file():
        raise CheckpointError(f"{directory} holds many models: say which configuration, such as load(run, 0, fold=0)")
    else:
        file = resolve_checkpoint(str(directory.absolute()), "")
        content = load_checkpoint(file, resume=False)
    loaded = ensemble_of(content, file) if is_ensemble(content) else module_of(content, file)
    for note in [*version_notes(content), *(uncalibrated(loaded) if configuration is None else [])]:
        warnings.warn(note, stacklevel=2)
    return loaded


def uncalibrated(loaded: ComponentModule | Ensemble) -> list[str]:
    """What to say of a model that is to scale its scores, and whose checkpoint has no temperature."""
    members = loaded.members if isinstance(loaded, Ensemble) else [loaded]
    if all(member.calibration is not None or not member.calibrate for member in members):
        return []
    return ["probabilities are not scaled: a temperature is kept in best.ckpt when a fit ends, and this file has none"]


def ensemble_of(content: Mapping[str, Any], file: Path, **evaluation: Any) -> Ensemble:
    """Return the ensemble that a checkpoint's content describes.

    Args:
        content: as `load_checkpoint` read it.
        file: the checkpoint, for messages.
        evaluation: as for `module_of`, of every member.

    Raises:
        CheckpointError: if weights are not those of the components, or the members do not go together.
    """
    members = [module_of(member, file, **evaluation) for member in models_in(content)]
    try:
        return Ensemble(members, Calibration.from_state(content[KEY].get(CALIBRATION)))
    except ConfigurationError as error:
        raise CheckpointError(f"{file} is malformed: {error}") from error


def module_of(content: Mapping[str, Any], file: Path, **evaluation: Any) -> ComponentModule:
    """Return the module that a checkpoint's content describes, with its weights.

    Args:
        content: as `load_checkpoint` read it.
        file: the checkpoint, for messages.
        evaluation: parameters of ComponentModule that training does not depend on, in the place of the checkpoint's.

    Raises:
        CheckpointError: if the weights are not those of the components.
    """
    module = ComponentModule(**{**content["hyper_parameters"], **evaluation})
    module.restore(content)
    with offering_another(file, resume=False):
        load_weights(module, content, file)
    return module


@contextmanager
def offering_another(path: Path, resume: bool) -> Iterator[None]:
    """Add to an error about a checkpoint file an intact checkpoint of its run, or that there is none.

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
    """Sorting key of files, newest first."""
    return -path.stat().st_mtime


def _intact(path: Path, resume: bool) -> bool:
    try:
        content = read_checkpoint(path)
        check_content(content, path, resume)
    except TorchplugError:
        return False
    return all(is_finite(value) for model in models_in(content) for value in model["state_dict"].values())


def _find(text: str, recipe: str, root: str | Path) -> Path:
    if text in ("best", "last"):
        run = newest(recipe, root)
        if run is None:
            raise CheckpointError(f"no run of {recipe} in {root} has a checkpoint: fit first, or name a file")
        if run.ensemble.is_file():
            return run.ensemble
        wanted, other = (run.best, run.last) if text == "best" else (run.last, run.best)
        if not wanted.is_file():
            raise CheckpointError(f"the newest run, {run.path}, has no {text} checkpoint: ask for {other.stem}")
        return wanted
    path = Path(text)
    if path.is_dir():
        run = Run(path)
        for checkpoint in (run.best, run.last, run.ensemble):
            if checkpoint.is_file():
                return checkpoint
        raise CheckpointError(
            f"{path} is no run directory with a checkpoint: checkpoints/best.ckpt and last.ckpt are missing"
        )
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}: name a file or a run directory, or write best or last")
    return path
