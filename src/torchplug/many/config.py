"""The configuration of a run of many models, and whether another one may go on with it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
import polars
import yaml  # type: ignore[import-untyped]
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn

from torchplug import bounded_yaml
from torchplug.data.splitting import DrawnRows
from torchplug.data.tabular import TabularData
from torchplug.errors import CheckpointError
from torchplug.fitting.config import data_settings, plain_settings
from torchplug.many.configurations import Configuration
from torchplug.tracking.settings import Tracking

_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_FREE = frozenset(
    {
        "default_root_dir",
        "enable_checkpointing",
        "enable_model_summary",
        "enable_progress_bar",
        "logger",
        "log_every_n_steps",
        "max_epochs",
        "num_sanity_val_steps",
        "use_distributed_sampler",
    }
)
"""Settings of the Trainer that may be others when training is resumed."""
Epoch = Literal["last", "best"]
"""Whose parameters models end with."""
_STOPPING = (
    *("monitor", "min_delta", "patience", "mode"),
    *("check_finite", "stopping_threshold", "divergence_threshold"),
)


def written_config(
    configurations: Sequence[Configuration],
    folds: Sequence[DrawnRows] | None,
    data: TabularData,
    trainer: Mapping[str, Any],
    tracking: Tracking,
    epoch: Epoch = "last",
) -> str:
    """The settings of a run as YAML: under `model` what all configurations have in common, then the rest of each.

    What has no plain form is described: callbacks other than EarlyStopping, networks of your own and tables in memory.
    """
    described = [_described(configuration) for configuration in configurations]
    shared = {name: value for name, value in described[0].items() if all(own[name] == value for own in described)}
    settings = {
        "model": shared,
        "configurations": [{name: value for name, value in own.items() if name not in shared} for own in described],
        "folds": None if folds is None else [_fold(rows) for rows in folds],
        "epoch": epoch,
        "data": data_settings(data),
        "trainer": {name: plain_settings(_described_callbacks(value)) for name, value in trainer.items()},
        "tracking": asdict(tracking),
    }
    # components that configurations share would be written as anchors and aliases
    text: str = yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


class _Dumper(_DUMPER):  # type: ignore[misc]
    """Writes values out wherever they stand."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def rows_of(folds: Sequence[DrawnRows]) -> polars.DataFrame:
    """The rows of each fold: fold, part, row."""
    parts = [
        polars.DataFrame({"row": rows}).select(fold=polars.lit(number), part=polars.lit(name), row="row")
        for number, fold in enumerate(folds)
        for name, rows in (("training", fold.training), ("validation", fold.validation))
    ]
    return polars.concat(parts)


def configuration_of(config: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The settings of one configuration of a run of many, with those that all have in common."""
    return {**config["model"], **config["configurations"][number]}


def refuse_others(stored: Mapping[str, Any], text: str, where: object) -> None:
    """Refuse to go on with a run by other settings.

    Args:
        stored: the run's configuration.
        text: the present one, as YAML.
        where: the run, for messages.

    Raises:
        CheckpointError: naming what differs.
    """
    given = bounded_yaml.load(text)
    remedy = "resume with the same"
    before, now = len(stored["configurations"]), len(given["configurations"])
    if before != now:
        raise CheckpointError(f"{where} has {before} configurations, not {now}: {remedy} ones")
    for number in range(now):
        old, new = configuration_of(stored, number), configuration_of(given, number)
        for name in old.keys() | new.keys():
            if old.get(name) != new.get(name):
                raise CheckpointError(
                    f"{where} was trained with {name} {old.get(name)} in configuration {number}, not "
                    f"{new.get(name)}: {remedy} configurations"
                )
    if (then := stored.get("epoch", "last")) != given["epoch"]:
        raise CheckpointError(
            f"{where} keeps the {then} epoch of its models, not the {given['epoch']}: {remedy} method that began it"
        )
    if stored["folds"] != given["folds"]:
        raise CheckpointError(f"{where} was trained on other folds: {remedy} ones")
    for section in ("data", "trainer"):
        old, new = stored[section], given[section]
        for name in sorted(old.keys() | new.keys()):
            if old.get(name) != new.get(name) and not (section == "trainer" and name in _FREE):
                raise CheckpointError(
                    f"{where} was trained with {section} {name} {old.get(name)}, not {new.get(name)}: {remedy} settings"
                )


def _described(configuration: Configuration) -> dict[str, Any]:
    described: dict[str, Any] = plain_settings(configuration.hyper_parameters)
    own = configuration.given.get("model")
    network = {"model": f"<{type(own).__name__}>"} if isinstance(own, nn.Module) else {}
    return {**described, **network, "seed": configuration.seed}


def _described_callbacks(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_described_callbacks(item) for item in value]
    if type(value) is not EarlyStopping:
        return value
    settings = {name: getattr(value, name) for name in _STOPPING}
    return {"class_path": "EarlyStopping", "init_args": {**settings, "min_delta": abs(value.min_delta)}}


def _fold(rows: DrawnRows) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in (rows.training, rows.validation):
        digest.update(np.ascontiguousarray(part).tobytes() + b"|")
    return {"training": len(rows.training), "validation": len(rows.validation), "sha256": digest.hexdigest()}
