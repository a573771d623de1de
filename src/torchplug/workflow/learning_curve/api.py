"""`torchplug.learning_curve`: the error by the number of training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars
from numpy.typing import NDArray

from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, DataError
from torchplug.fit_result import FitResult
from torchplug.many.configurations import Configurations
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow import pictures
from torchplug.workflow.diagnosis.measures import Measures, error_name, measure
from torchplug.workflow.learning_curve.picture import draw
from torchplug.workflow.learning_curve.power_law import fitted, interval
from torchplug.workflow.learning_curve.result import LearningCurve
from torchplug.workflow.unfinished import Unfinished, fit_all

Part = tuple[float, int, NDArray[np.int64]]
"""A share of the training split, the number of the repeat, and its rows."""


def learning_curve(
    config: Mapping[str, Any],
    data: TabularData,
    *,
    fractions: Sequence[float] = (0.1, 0.2, 0.5, 1.0),
    repeats: int = 3,
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "learning_curve",
    root: str | Path = "runs",
    seed: int = 0,
    resume: str | Path | None = None,
) -> LearningCurve:
    """Train on growing random parts of the training split, always validate on the same rows, and extrapolate.

    Smaller parts of a repeat lie within its larger ones; all rows are trained on once. Models of one structure are
    trained as one program (`fit_many`). To the validation errors the power law a + b·n^−c is fitted, which gives
    the error expected from twice the rows. Errors are the share of wrong labels, or the root mean squared error, at the
    end of training. The run directory has learning_curve.csv and learning_curve.png besides what `fit_many` writes.

    Args:
        config: ComponentModule's parameters.
        data: the table, in memory, with a validation split. Its test split is not used.
        fractions: shares of the training split, in (0, 1].
        repeats: random parts of each size, at least 1.
        trainer: parameters of Lightning's Trainer, such as `max_epochs`.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}`.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of the parts, and of each network's start and dropout, 0 or more.
        resume: the directory of a run that was interrupted, or `last`: its finished fits are not trained again.

    Returns:
        errors of each fit, their means, the power law, and the run.

    Raises:
        ConfigurationError: for components or settings that do not exist or do not go together.
        DataError: for a table that cannot be used, or one without validation rows.
        CheckpointError: if there is no run to resume, or it is one of other settings.
        KeyboardInterrupt: after Ctrl-C; what was trained is kept, and `resume` goes on.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("linear"), "optimizer": use("adam", lr=1.0)}
        >>> options = {"trainer": {"max_epochs": 50}, "tracking": {"mode": "disabled"}}
        >>> print(torchplug.learning_curve(config, TabularData("diabetes"), **options).line)  # doctest: +SKIP
    """
    job = Tracing(config, data, fractions, repeats, trainer or {}, Tracking.of(tracking), name, root, seed, resume)
    try:
        return job.run()
    except Unfinished as stop:
        raise stop.told("the learning curve") from stop


@dataclass(frozen=True)
class Tracing:
    """A learning curve to be made; the arguments are those of `learning_curve`."""

    config: Mapping[str, Any]
    data: TabularData
    fractions: Sequence[float]
    repeats: int
    trainer: Mapping[str, Any]
    tracking: Tracking
    name: str
    root: str | Path
    seed: int
    resume: str | Path | None

    def run(self) -> LearningCurve:
        """Train, extrapolate, and write the run directory.

        Raises:
            TorchplugError: for input that is refused.
            Unfinished: if a signal stopped it.
        """
        parts, folds = self._divided()
        results, run = fit_all(
            [{**self.config, "seed": self.seed}],
            self.data,
            folds,
            trainer=self.trainer,
            tracking=self.tracking,
            name=self.name,
            root=self.root,
            ckpt_path=self.resume,
        )
        measured = [_measured(result, self.data, fold) for result, fold in zip(results, folds, strict=True)]
        found = _curve(parts, results, measured, run)
        run.write_table("learning_curve.csv", found.fits)
        if pictures.available():
            draw(found, run.path / "learning_curve.png")
        else:
            run.write_notes([*run.notes, pictures.INSTALL])
        return found

    def _divided(self) -> tuple[list[Part], list[tuple[NDArray[np.int64], NDArray[np.int64]]]]:
        """The parts, and the rows that train and validate with each."""
        if not self.fractions or not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ConfigurationError(
                f"fractions are shares of the training split in (0, 1], not {list(self.fractions)}"
            )
        if self.repeats < 1:
            raise ConfigurationError(f"repeats must be at least 1, not {self.repeats}")
        prepared = self.data.copied()
        prepared.prepare(Configurations().read(self.config).module().data_request())
        if not prepared.sizes["validation"]:
            raise DataError("a learning curve needs validation rows, and the split has none: change --data.split")
        validation = prepared.row_numbers("validation")
        fractions = sorted(set(self.fractions))
        parts = list(_parts(prepared.row_numbers("train"), fractions, self.repeats, self.seed))
        return parts, [(rows, validation) for _, _, rows in parts]


def _parts(rows: NDArray[np.int64], fractions: Sequence[float], repeats: int, seed: int) -> Iterator[Part]:
    """Yield the parts, the smallest first."""
    orders = [np.random.default_rng([seed, repeat]).permutation(rows) for repeat in range(repeats)]
    for fraction in fractions:
        size = max(2, round(fraction * len(rows)))
        if size >= len(rows):
            yield fraction, 0, rows
            continue
        for repeat, order in enumerate(orders):
            yield fraction, repeat, np.sort(order[:size])


def _measured(result: FitResult, data: TabularData, fold: tuple[Any, Any]) -> tuple[str, Measures, Measures]:
    module, own = result.module, data.fold(*fold)
    own.prepare(module.data_request())
    assert module.network is not None, "it is trained"
    train, validation = (measure(module.network, module, own, split) for split in ("train", "validation"))
    assert train is not None, "a fold has training rows"
    assert validation is not None, "the validation split has rows"
    return error_name(train.metrics, module.loss), train, validation


def _curve(
    parts: Sequence[Part], results: Sequence[FitResult], measured: Sequence[tuple[str, Measures, Measures]], run: Run
) -> LearningCurve:
    name = measured[0][0]
    rows = [
        {
            "fraction": fraction,
            "rows": len(own),
            "repeat": repeat,
            "train loss": train.loss,
            "val loss": validation.loss,
            **({} if name == "loss" else {f"train {name}": train.error, f"val {name}": validation.error}),
        }
        for (fraction, repeat, own), (_, train, validation) in zip(parts, measured, strict=True)
    ]
    fits = polars.DataFrame(rows)
    sizes, errors = fits["rows"].cast(polars.Float64).to_numpy(), fits[f"val {name}"].to_numpy()
    law, doubled = fitted(sizes, errors), 2 * float(sizes.max())
    groups = [(float(size), errors[sizes == size]) for size in np.unique(sizes)]
    return LearningCurve(
        fits=fits,
        error_name=name,
        law=law,
        doubled=None if law is None else law.at(doubled),
        interval=None if law is None else interval(groups, doubled),
        results=results,
        run=run,
    )
