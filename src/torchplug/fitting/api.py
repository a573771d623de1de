"""`torchplug.fit`: a fit with all that a recipe does, called from Python."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import yaml  # type: ignore[import-untyped]

from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError, ConfigurationError
from torchplug.fit_result import FitResult
from torchplug.fitting.config import written_config
from torchplug.fitting.environment import as_found, seed_generators
from torchplug.fitting.origin import Origin
from torchplug.fitting.trainer import NOT_SETTABLE
from torchplug.fitting.training import Training
from torchplug.interruption import Interrupted
from torchplug.module import EVALUATION_SETTINGS, HOW_STEPS_ARE_MADE, ComponentModule
from torchplug.tracking.checkpoint_versions import version_notes
from torchplug.tracking.jsonl import plain_values
from torchplug.tracking.settings import Tracking


def fit(
    config: Mapping[str, Any] | ComponentModule,
    data: TabularData,
    *,
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "fit",
    root: str | Path = "runs",
    seed: int | None = 0,
    ckpt_path: str | Path | None = None,
    refit: bool = False,
) -> FitResult:
    """Train components on a table, in a run directory of its own, and return what came of it.

    Does what a recipe's `fit` does: checks before anything is written, checkpoints (`best` and `last`), metrics,
    provenance, coefficients and outcome in the run directory, W&B. When training ends, the best checkpoint and the
    module are calibrated on the validation split: they predict with intervals; and a model that is not linear is
    compared with a linear one on the validation split (`FitResult.baseline`). Prints nothing and needs no command
    line; warnings are Python's.

    Args:
        config: `ComponentModule`'s parameters by name, or a module. A module is trained in place.
        data: the table; its splits are `train`, `val` and `test`.
        trainer: parameters of Lightning's Trainer, such as `max_epochs`. Loggers and checkpoints are the run's.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}`.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of all random generators (Python, NumPy, torch), which are seeded; None leaves them as they are.
        ckpt_path: the checkpoint from which training is resumed, in its own run directory; limits count from the start.
        refit: whether the model is trained again when training has ended, from the start and the seed, on training and
            validation rows together, for as many epochs as the best one had behind it. It becomes `run.best`, with the
            intervals or the temperature of the first fit; that one's best model is `run.selected`, and the result's
            module and metrics are its own.

    Returns:
        The module with the parameters of the last step, the last metrics, the outcome and the run.

    Raises:
        ConfigurationError: for components or settings that do not exist or do not go together.
        DataError: for a table that cannot be used.
        CheckpointError: if `ckpt_path` cannot be resumed from, or is of another configuration.
        TrainingError: if training cannot continue, such as after a gradient that is not finite.
        KeyboardInterrupt: after Ctrl-C; `run.last` is the checkpoint to resume from.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("linear"), "loss": use("mse"), "optimizer": use("adam", lr=0.01)}
        >>> data = TabularData("diabetes", "target")
        >>> options = {"trainer": {"max_epochs": 4}, "tracking": {"mode": "disabled"}}
        >>> result = torchplug.fit(config, data, **options)  # doctest: +SKIP
        >>> result.metrics["val/rmse"], result.run.best  # doctest: +SKIP
    """
    settings = dict(trainer or {})
    _refuse_unknown(settings)
    tracked = Tracking.of(tracking)
    seed_generators(seed)
    module = config if isinstance(config, ComponentModule) else _module(config)
    origin = None if ckpt_path is None else _origin(Path(ckpt_path), module)
    written = written_config(module, data, settings, tracked, seed) | ({"refit": True} if refit else {})
    training = Training(
        name=name,
        module=module,
        data=data,
        trainer=settings,
        tracking=tracked,
        seed=seed,
        config=yaml.safe_dump(written, sort_keys=False, allow_unicode=True),
        root=str(root),
        origin=origin,
        compares=True,
        refits=refit,
    )
    try:
        with as_found():
            trained = training.run()
    except Interrupted as stop:
        raise KeyboardInterrupt("training was interrupted: resume it with ckpt_path, from last.ckpt") from stop
    metrics = plain_values(trained.trainer.callback_metrics)
    return FitResult(metrics, trained.outcome, lambda: module, trained.run, trained.baseline)


def _module(config: Mapping[str, Any]) -> ComponentModule:
    known = list(inspect.signature(ComponentModule).parameters)
    unknown = [name for name in config if name not in known]
    if unknown:
        raise ConfigurationError(f"config has {', '.join(unknown)}; ComponentModule takes {', '.join(known)}")
    return ComponentModule(**config)


def _refuse_unknown(trainer: Mapping[str, Any]) -> None:
    known = [name for name in inspect.signature(lightning.Trainer).parameters if name not in NOT_SETTABLE]
    for name in trainer:
        if name in NOT_SETTABLE:
            raise ConfigurationError(f"trainer: {name} follows from the run directory and the data: leave it out")
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"did you mean {near[0]}?" if near else "its parameters are those of lightning.Trainer"
            raise ConfigurationError(f"trainer: there is no parameter {name}; {advice}")


def _origin(file: Path, module: ComponentModule) -> Origin:
    """The checkpoint to resume from; warns if other versions made it.

    Raises:
        CheckpointError: if there is none, or it is of another configuration.
    """
    if not file.is_file():
        raise CheckpointError(f"there is no checkpoint {file}")
    origin = Origin.of(file.absolute(), resume=True)
    stored, given = origin.content["hyper_parameters"], dict(module.hparams)
    for name, value in given.items():
        if name not in (*HOW_STEPS_ARE_MADE, *EVALUATION_SETTINGS) and value != stored.get(name):
            raise CheckpointError(
                f"{file} was trained with {name} {stored.get(name)}, not {value}: resume with the same configuration"
            )
    for note in version_notes(origin.content):
        warnings.warn(note, stacklevel=3)
    return origin
