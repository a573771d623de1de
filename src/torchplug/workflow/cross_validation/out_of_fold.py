"""What the models of all folds are on the rows that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import lightning
import polars
import torch

from torchplug.components.contracts import Loss
from torchplug.data.folds import Fold
from torchplug.data.tabular import TabularData
from torchplug.evaluation.calibration import Calibration, HeldOut, errors_of, held_out, takes_intervals
from torchplug.evaluation.residuals import Residuals
from torchplug.evaluation.temperature import Temperature, takes_temperature
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
        held_out: the scores of these rows.
        errors: y − ŷ of these rows for each target column, in its units; None for classes.
    """

    metrics: Mapping[str, float]
    predictions: polars.DataFrame
    training: int
    notes: Sequence[str]
    held_out: HeldOut
    errors: polars.DataFrame | None


def out_of_fold(
    module: ComponentModule, data: TabularData, fold: Fold, number: int, trainer: lightning.Trainer
) -> OutOfFold:
    """Evaluate one fold's model, as it is at the end of training, on the rows that validate.

    Args:
        module: trained, on the CPU; it loses its calibration, which is by these rows.
        data: the table.
        fold: the rows that trained and validate.
        number: the fold's.
        trainer: whose precision the features have.
    """
    own = data.fold(*fold)
    own.trainer = trainer
    own.prepare(module.data_request())
    module.calibration = None
    metrics = {name.partition("/")[2]: value for name, value in validation_metrics(module, own).items()}
    frame = own.frame_of("validation")
    predicted = module.decode(module.predictions(frame))
    (numbers,) = own.rows_of("validation").row_numbers()
    place = polars.DataFrame({"fold": [number] * len(numbers), "row": numbers + 1})
    predictions = polars.concat([place, _actual(module, frame), predicted], how="horizontal")
    assert module.network is not None, "it is trained"
    assert module.preprocessing is not None, "it is trained"
    scored = held_out(module.network, own.all_batches("validation"))
    errors = None
    if takes_intervals(module.loss):
        errors = polars.DataFrame(errors_of(scored, module.loss, module.preprocessing).numpy())
        errors.insert_column(0, place["row"])
    return OutOfFold(metrics, predictions, own.sizes["train"], own.notes, scored, errors)


def pooled(folds: Sequence[OutOfFold], loss: Loss) -> Calibration:
    """What all rows say of the models that have not seen them.

    Of a row in several folds, as with repeats, the mean of its errors counts: that of its averaged predictions.

    Args:
        folds: evaluated.
        loss: which predicts.
    """
    errors = [own.errors for own in folds if own.errors is not None]
    if errors:
        of_rows = polars.concat(errors).group_by("row").mean().drop("row")
        return Calibration(residuals=Residuals.of(torch.tensor(of_rows.to_numpy())))
    if takes_temperature(loss):
        return Calibration(temperature=Temperature.of(*HeldOut.joined([own.held_out for own in folds])))
    return Calibration()


def _actual(module: ComponentModule, frame: polars.DataFrame) -> polars.DataFrame:
    """The target's columns as they are in the table."""
    assert module.preprocessing is not None, "it is trained"
    return frame.select(polars.col(name).alias(f"{ACTUAL}{name}") for name in module.preprocessing.info.columns)
