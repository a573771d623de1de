"""Several trained models that predict as one, and their checkpoint, one file with an ordinary checkpoint of each:

torchplug                       version
members                         a list of checkpoints that predict, as `ComponentModule` writes them
calibration                     of the averaged predictions, where it is known
datamodule_hyper_parameters     the settings of the table that they were trained on, where it is known
TabularData                     its fingerprint, where it is known
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import polars
from torch import Tensor

from torchplug.checkpoint_record import CALIBRATION, KEY, checkpoint_record
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.evaluation.calibration import Calibration, takes_intervals
from torchplug.evaluation.intervals import PredictionIntervals
from torchplug.evaluation.residuals import Residuals
from torchplug.evaluation.split_evaluations import original_units
from torchplug.module import ComponentModule
from torchplug.preprocessing import Preprocessing
from torchplug.registry import Resolved
from torchplug.tables import as_frame, enumerate_names
from torchplug.tracking.checkpoint_file import write_checkpoint

MEMBERS = "members"
_RESIDUALS = (
    "ensembles of cross_validate and, with a validation split, of fit_ensemble have them; any other, after "
    "`Ensemble.calibrate_on` with rows that trained no member"
)


class Ensemble:
    r"""Averages the predictions of several trained models.

        ŷ = (1/M) Σ_m ŷ_m        numbers in the target's units; probabilities of classes

    The label is that of the most probable class. Members may differ in components, hyper-parameters and preprocessing
    (each standardizes and encodes by its own), not in target and kind of loss.

    Args:
        members: M ≥ 1 trained modules.
        calibration: what rows that trained no member say of how sure the averages are, for intervals. Members that
            scale scores by a temperature do so each by its own.

    Attributes:
        members: the modules.
        calibration: as given.

    Raises:
        ConfigurationError: if a member is not trained, or predicts something else than the first, or reads a column by
            another type.

    Example:
        >>> from torchplug import Ensemble, TabularData, fit_many, use
        >>> config = {"model": use("linear"), "optimizer": use("adam", lr=0.1)}
        >>> settings = {"max_epochs": 2, "accelerator": "cpu"}
        >>> data = TabularData("diabetes")
        >>> results = fit_many([{**config, "seed": seed} for seed in range(3)], data, trainer=settings)
        >>> ensemble = Ensemble([result.module for result in results])
    """

    def __init__(self, members: Sequence[ComponentModule], calibration: Calibration | None = None) -> None:
        if not members:
            raise ConfigurationError("an ensemble needs at least one member")
        self.members = list(members)
        self.calibration = calibration
        first, own = self.members[0], _preprocessing(self.members[0])
        for number, member in enumerate(self.members):
            preprocessing = _preprocessing(member)
            if member.loss.kind != first.loss.kind or preprocessing.info != own.info:
                raise ConfigurationError(
                    f"member {number} predicts {_described(member)}, and member 0 {_described(first)}: an ensemble "
                    "averages models of one target and kind of loss"
                )
            differing = [name for name, kind in preprocessing.types.items() if own.types.get(name, kind) != kind]
            if differing:
                raise ConfigurationError(
                    f"member {number} reads {enumerate_names(differing)} as {preprocessing.types[differing[0]]}, and "
                    f"member 0 as {own.types[differing[0]]}: train all on tables of the same types"
                )

    @property
    def components(self) -> list[Resolved]:
        """The components of all members."""
        return [component for member in self.members for component in member.components]

    def __repr__(self) -> str:
        return f"Ensemble({len(self.members)} models)"

    @property
    def types(self) -> Mapping[str, Any]:
        """The type by which each column is read, by any member."""
        return {name: kind for member in self.members for name, kind in _preprocessing(member).types.items()}

    def calibrate_on(self, frame: polars.DataFrame) -> None:
        """Keep the residuals of rows that trained no member, such as a validation split that all of them share.

        Args:
            frame: the rows with their target, which is a number.

        Raises:
            ConfigurationError: if members predict classes: each has a temperature of its own.
            DataError: if columns are missing or hold what training never saw.
        """
        loss, preprocessing = self.members[0].loss, _preprocessing(self.members[0])
        if not takes_intervals(loss):
            raise ConfigurationError("calibrate_on keeps residuals of numbers, and the members predict none")
        target = original_units(preprocessing.target(frame), loss, preprocessing)
        self.calibration = Calibration(Residuals.of(target - loss.point(self.predictions(frame))))

    def intervals(self, level: float) -> PredictionIntervals:
        """The intervals that cover a share of new rows, as `ComponentModule.intervals`."""
        first = self.members[0]
        return PredictionIntervals.of(level, self.calibration, first.loss, _preprocessing(first).info, _RESIDUALS)

    def predict(
        self, source: Any, name: str = "the data", interval: float | None = None, *, spread: bool = False
    ) -> polars.DataFrame:
        """Predict rows given as the training data were: an array, or a frame with those columns.

        Args:
            source: NumPy array, tensor, polars or pandas frame (n rows). The target is not needed.
            name: what messages call it.
            interval: the share of rows that an interval around each number is to cover, in (0, 1); None: no interval.
            spread: whether the standard deviation over members is added to each number (of the population).

        Returns:
            n rows: a column per target in its own units; for classes the label and `probability_…`. With an interval
            also `<target>_lower` and `<target>_upper`. With `spread` also `<target>_spread`, in the target's units, or
            `spread_…` of each probability.

        Raises:
            DataError: if columns are missing or hold what training never saw.
            ConfigurationError: if intervals are refused, see `intervals`, and for the spread of a single model.
        """
        intervals, first = None if interval is None else self.intervals(interval), self.members[0]
        if spread and len(self.members) < 2:
            raise ConfigurationError("one model has no spread: it is that of an ensemble, such as fit --ensemble 8")
        frame = as_frame(source)
        each = list(self._each(frame, name)) if spread else []
        predictions = reduce(Tensor.add, each) / len(each) if spread else self.predictions(frame, name)
        table = first.decode(predictions)
        if intervals is not None:
            table = intervals.beside(table, first.loss.point(predictions))
        if spread:
            table = polars.concat([table, self._spread([first.decode(own) for own in each])], how="horizontal")
        return table

    def _spread(self, tables: Sequence[polars.DataFrame]) -> polars.DataFrame:
        """The standard deviation of each predicted number over the members' tables."""
        first = 0 if _preprocessing(self.members[0]).info.classes is None else 1  # the label
        names = tables[0].columns[first:]
        deviations = np.std([table.select(names).to_numpy() for table in tables], axis=0)
        return polars.DataFrame(deviations, schema=[_spread_name(column) for column in names])

    def predictions(self, frame: polars.DataFrame, name: str = "the data") -> Tensor:
        """The mean of the members' `ComponentModule.predictions`, (n, k) float64."""
        total: Tensor = reduce(Tensor.add_, self._each(frame, name))
        return total / len(self.members)

    def _each(self, frame: polars.DataFrame, name: str) -> Iterator[Tensor]:
        return (member.predictions(frame, name) for member in self.members)

    def save_checkpoint(self, path: str | Path, data: TabularData | None = None) -> None:
        """Write one checkpoint of all members, for `torchplug.load` and the recipes' `predict`, `validate` and `test`.

        Args:
            path: of the file.
            data: the table, whose settings the recipes use where none are given.

        Raises:
            WriteError: if the file cannot be written; a previous file is unchanged.
        """
        calibration = None if self.calibration is None else self.calibration.state()
        content = {
            KEY: {"version": version("torchplug"), CALIBRATION: calibration},
            MEMBERS: [_checkpoint(member) for member in self.members],
        }
        if data is not None:
            content["datamodule_hyper_parameters"] = dict(data.hparams)
            content[TabularData.__qualname__] = data.state_dict()
        write_checkpoint(content, path)


def is_ensemble(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint holds several models."""
    return MEMBERS in content


def models_in(content: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The checkpoints of the models that one checkpoint holds, one or more."""
    members: Sequence[Mapping[str, Any]] = content[MEMBERS] if is_ensemble(content) else [content]
    return members


def _preprocessing(member: ComponentModule) -> Preprocessing:
    if member.preprocessing is None or member.network is None:
        raise ConfigurationError("a member of an ensemble is not trained: fit it first")
    return member.preprocessing


def _spread_name(column: str) -> str:
    label = column.removeprefix("probability_")
    return f"{column}_spread" if label == column else f"spread_{label}"


def _described(member: ComponentModule) -> str:
    info = _preprocessing(member).info
    classes = "" if info.classes is None else f" of {len(info.classes)} classes"
    return f"{enumerate_names(info.columns)}{classes} by a {member.loss.kind} loss"


def _checkpoint(module: ComponentModule) -> dict[str, Any]:
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": {name: value.clone() for name, value in module.state_dict().items()},
        "hyper_parameters": dict(module.hparams),
        KEY: checkpoint_record(module.resolved, module.loss, module.preprocessing, module.calibration),
    }
