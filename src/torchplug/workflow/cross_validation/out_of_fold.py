"""What the models of all folds are on the rows that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightning
import polars

from torchplug.data.folds import Fold
from torchplug.data.tabular import TabularData
from torchplug.many.evaluation import validation_metrics
from torchplug.module import ComponentModule

ACTUAL = "actual_"
"""Prefix of the columns of targets, beside those of predictions."""


@dataclass(frozen=True)
class OutOfFold:
    """One fold's model on the rows that validate.

    Args:
        metrics: by plain names, such as `rmse`; NaN where one is undefined.
        predictions: `fold`, `row` (of the source, counted from 1), the target and the predictions.
        training: how many rows trained.
        notes: what was noticed of these rows.
    """

    metrics: Mapping[str, float]
    predictions: polars.DataFrame
    training: int
    notes: Sequence[str]


def out_of_fold(
    module: ComponentModule, data: TabularData, fold: Fold, number: int, trainer: lightning.Trainer
) -> OutOfFold:
    """Evaluate one fold's model, as it is at the end of training, on the rows that validate.

    Args:
        module: trained, on the CPU.
        data: the table.
        fold: the rows that trained and validate.
        number: the fold's.
        trainer: whose precision the features have.
    """
    own = data.fold(*fold)
    own.trainer = trainer
    own.prepare(module.data_request())
    metrics = {name.partition("/")[2]: value for name, value in validation_metrics(module, own).items()}
    frame = own.frame_of("validation")
    predicted = module.decode(module.predictions(frame))
    (numbers,) = own.rows_of("validation").row_numbers()
    place = polars.DataFrame({"fold": [number] * len(numbers), "row": numbers + 1})
    predictions = polars.concat([place, _actual(module, frame), predicted], how="horizontal")
    return OutOfFold(metrics, predictions, own.sizes["train"], own.notes)


def _actual(module: ComponentModule, frame: polars.DataFrame) -> polars.DataFrame:
    """The target's columns as they are in the table."""
    assert module.preprocessing is not None, "it is trained"
    return frame.select(polars.col(name).alias(f"{ACTUAL}{name}") for name in module.preprocessing.info.columns)
