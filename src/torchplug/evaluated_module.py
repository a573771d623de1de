"""What a module does with a network as it is: evaluate and predict."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import polars
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from torchplug.batch import Batch, as_batch
from torchplug.components.contracts import Loss, linear_scores
from torchplug.components.metrics import MetricChoice
from torchplug.errors import ConfigurationError
from torchplug.evaluation.calibration import Calibration, held_out
from torchplug.evaluation.coefficients import coefficient_table, original_coefficients
from torchplug.evaluation.intervals import PredictionIntervals
from torchplug.evaluation.split_evaluations import SplitEvaluations, in_units, scores_of
from torchplug.preprocessing import Preprocessing
from torchplug.tables import as_frame
from torchplug.training.lightning_internals import QuickHooks, log_validation

_RESIDUALS = (
    "a fit with a validation split keeps them in its best.ckpt when it ends (one that was interrupted: when it is "
    "resumed and ends)"
)


class EvaluatedModule(QuickHooks):
    """A network with its loss and its preprocessing, which evaluates and predicts.

    Attributes:
        network: gives scores (n, k); None until its sizes are known.
        loss: what it is evaluated by.
        preprocessing: from tables to features and back; None until there are data.
        calibration: what rows that did not train say of how sure predictions are; None before a fit has ended.
        calibrate: whether scores of classes are divided by the calibration's temperature.
    """

    calibrate = False

    def __init__(self, network: nn.Module | None, loss: Loss, metrics: MetricChoice) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self.preprocessing: Preprocessing | None = None
        self.calibration: Calibration | None = None
        self._evaluations = SplitEvaluations(self.loss, metrics)

    @property
    def statistics(self) -> Any:
        """What an optimizer left of how sure the coefficients are; None if nothing."""
        return None

    def _built(self) -> nn.Module:
        if self.network is None:
            raise ConfigurationError(
                "the network's sizes are not known yet: fit with TabularData, load a checkpoint, or pass an nn.Module"
            )
        return self.network

    def forward(self, features: Any) -> Tensor:
        """Scores (n, k) for encoded features."""
        scores: Tensor = self._built()(features)
        return scores

    def _as_batch(self, batch: Any, batch_idx: int) -> Batch:
        if isinstance(batch, Batch):
            return batch
        trainer = self.trainer
        training = bool(trainer.training)
        return as_batch(
            batch,
            batch_idx,
            world=trainer.world_size,
            window=trainer.accumulate_grad_batches if training else 1,
            batches=trainer.num_training_batches if training else math.inf,
            indices=self.loss.task.has_indices,
        )

    # ------------------------------------------------------------------ calibration

    def calibrate_on(self, batches: Iterable[Batch]) -> None:
        """Keep the residuals, or the temperature, of rows that did not train; a fit does so with its validation split.

        Args:
            batches: of these rows, such as `TabularData.val_dataloader()`, features in any precision.

        Raises:
            ConfigurationError: if there is no preprocessing: nothing was fitted or loaded.
        """
        if self.preprocessing is None:
            raise ConfigurationError("nothing to calibrate: fit first, or load a checkpoint")
        self.calibration = Calibration.of(held_out(self._built(), batches), self.loss, self.preprocessing)

    @property
    def temperature(self) -> float:
        """What scores are divided by before they become predictions: 1 unless `calibrate` was asked for."""
        if not self.calibrate or self.calibration is None or self.calibration.temperature is None:
            return 1.0
        return self.calibration.temperature.value

    def _tempered(self, scores: Tensor) -> Tensor:
        return scores if self.temperature == 1.0 else scores / self.temperature

    # ------------------------------------------------------------------ evaluation

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate("val", self._as_batch(batch, batch_idx))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate("test", self._as_batch(batch, batch_idx))

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._finish_evaluation("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._finish_evaluation("test")

    def _evaluate(self, split: str, batch: Batch) -> None:
        self._evaluations.update(split, self._tempered(self(batch.features)), batch, self.preprocessing)

    def _finish_evaluation(self, split: str) -> None:
        values = self._evaluations.finish(split)
        if not self.trainer.sanity_checking:
            undefined = [name.partition("/")[2] for name in self._evaluations.newly_undefined(values)]
            if undefined:
                rank_zero_warn(f"{split}: {', '.join(undefined)} undefined on this split, logged as null")
        values = {name: value.to(self.device) for name, value in values.items()}
        shown = [name for name in values if name.endswith("/loss")]
        if self.trainer.state.fn == "fit" and not self.trainer.sanity_checking:
            log_validation(self.trainer, values, shown)
            return
        for name, value in values.items():
            # The ranks already agree, and the maximum of equal numbers is exact where a mean rounds.
            self.log(name, value, reduce_fx="max", sync_dist=True, prog_bar=name in shown)

    # ------------------------------------------------------------------ prediction

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Predictions, link applied and in the target's units, in float64 on the CPU."""
        own = isinstance(batch, list | tuple) and not isinstance(batch, Batch)
        features = batch.features if isinstance(batch, Batch) else batch[0] if own else batch
        return self._predicted(self(features).double()).cpu()

    def _predicted(self, scores: Tensor) -> Tensor:
        """Predictions from scores (n, k) in float64."""
        return in_units(self.loss.link(self._tempered(scores)), self.loss, self.preprocessing, self.loss.units)

    def intervals(self, level: float) -> PredictionIntervals:
        """The intervals that cover a share of new rows, by the residuals of rows that did not train.

        Args:
            level: that share, in (0, 1).

        Raises:
            ConfigurationError: if the loss is not for numbers, there are no residuals or too few, or the level is out
                of range.
        """
        if self.preprocessing is None:
            raise ConfigurationError("nothing to predict with: fit first, or load a checkpoint")
        return PredictionIntervals.of(level, self.calibration, self.loss, self.preprocessing.info, _RESIDUALS)

    def predict(self, source: Any, name: str = "the data", interval: float | None = None) -> polars.DataFrame:
        """Predict rows given as the training data were: an array, or a frame with those columns.

        Args:
            source: NumPy array, tensor, polars or pandas frame (n rows). The target is not needed.
            name: what messages call it.
            interval: the share of rows that an interval around each number is to cover, in (0, 1); None: no interval.

        Returns:
            n rows: a column per target in its own units; for classes the label and `probability_…`. With an interval
            also `<target>_lower` and `<target>_upper`.

        Raises:
            DataError: if columns are missing or hold what training never saw.
            ConfigurationError: if there is no preprocessing: nothing was fitted or loaded. If intervals are refused:
                see `intervals`.
        """
        intervals = None if interval is None else self.intervals(interval)
        predictions = self.predictions(as_frame(source), name)
        table = self.decode(predictions)
        return table if intervals is None else intervals.beside(table, self.loss.point(predictions))

    def predictions(self, frame: polars.DataFrame, name: str = "the data") -> Tensor:
        """Predictions of rows before `decode`: the link applied, numbers in the target's units.

        Args:
            frame: n rows. The target is not needed.
            name: what messages call it.

        Returns:
            (n, k), float64, on the CPU.

        Raises:
            DataError: if columns are missing or hold what training never saw.
            ConfigurationError: if there is no preprocessing: nothing was fitted or loaded.
        """
        if self.preprocessing is None:
            raise ConfigurationError("nothing to predict with: fit first, or load a checkpoint")
        return self._predicted(scores_of(self._built(), self.preprocessing, frame, name))

    def decode(self, predictions: Tensor) -> polars.DataFrame:
        """Name the columns of predictions, as `Trainer.predict` gives them, and restore labels."""
        if self.preprocessing is None:
            raise ConfigurationError("nothing to decode with: fit first, or load a checkpoint")
        return self.preprocessing.decode(predictions, self.loss.prediction_names(self.preprocessing.info))

    def coefficients(self) -> list[tuple[str, str, float]]:
        """(output, feature, coefficient) of a linear model in original units, float64.

        Raises:
            ConfigurationError: if the model is not linear, or not fitted.
        """
        return original_coefficients(self._built(), self.preprocessing)

    def coefficient_table(self) -> polars.DataFrame:
        """The coefficients as a table; with standard errors, t or z, p and 95 % intervals where the optimizer has them.

        A network of your own has a row for each parameter, if its fit by a full-batch optimizer has converged.

        Raises:
            ConfigurationError: if the model is neither linear nor has standard errors, or is not fitted.
        """
        modules = (("", self._built()), ("loss.", self.loss))
        parameters = [(p + name, t) for p, m in modules for name, t in m.named_parameters() if t.requires_grad]
        return coefficient_table(self._built(), self.preprocessing, self.statistics, parameters)

    @property
    def has_coefficients(self) -> bool:
        """Whether `coefficient_table` has rows: for a linear model, or one for which there are standard errors."""
        return linear_scores(self.network) is not None or self.statistics is not None
