"""`torchplug.cross_validate`: k fits, each judged on rows that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug.data.folds import Fold
from torchplug.data.tabular import TabularData
from torchplug.errors import DataError
from torchplug.many.configurations import Configuration, watched_by
from torchplug.many.settings import TrainerSettings
from torchplug.tracking.choices import chosen
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow import pictures
from torchplug.workflow.cross_validation import tracked
from torchplug.workflow.cross_validation.out_of_fold import out_of_fold
from torchplug.workflow.cross_validation.picture import draw
from torchplug.workflow.cross_validation.result import CrossValidation
from torchplug.workflow.folds import divided
from torchplug.workflow.requirements import one_process, unseeded
from torchplug.workflow.unfinished import Unfinished, fit_all

Folds = int | Sequence[tuple[Any, Any]]


def cross_validate(
    config: Mapping[str, Any],
    data: TabularData,
    *,
    folds: Folds = 5,
    repeats: int = 1,
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "cross_validate",
    root: str | Path = "runs",
    seed: int = 0,
    resume: str | Path | None = None,
) -> CrossValidation:
    """Train on all but one fold and evaluate on that one, for each of k folds, in one run directory.

    Preprocessing is fitted on each fold's training rows. Metrics are those of the end of training: no epoch is chosen
    by the fold that is held out. The test split belongs to no fold. Models of one structure are trained as one program
    (`fit_many`). The run directory has folds.csv (the metrics), out_of_fold.csv and out_of_fold.png, and
    checkpoints/ensemble.ckpt, with which `torchplug.load(run).predict` averages the predictions of all folds' models;
    `interval` gives intervals by out-of-fold residuals. Metrics are of scores as they are, also with `calibrate`.

    Args:
        config: ComponentModule's parameters.
        data: the table.
        folds: k of `TabularData.folds`: by class, whole groups or along time; or pairs of training and validation rows,
            counted from 0 in the source.
        repeats: how many times the rows are divided into folds, at least 1.
        trainer: parameters of Lightning's Trainer, such as `max_epochs`.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}`. A W&B run for each fold and a summary,
            in one group.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of the folds, and of each network's start and dropout, 0 or more.
        resume: the directory of a run that was interrupted, or `last`: its finished folds are not trained again.

    Returns:
        metrics per fold, their means with corrected 95 % intervals, out-of-fold predictions, the fits and the run.

    Raises:
        ConfigurationError: for components or settings that do not exist or do not go together.
        DataError: for a table that cannot be used or divided so, and folds with rows of the test split.
        CheckpointError: if there is no run to resume, or it is one of other settings.
        KeyboardInterrupt: after Ctrl-C; finished folds are kept, and `resume` goes on.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("linear"), "loss": use("mse"), "optimizer": use("adam", lr=0.1)}
        >>> options = {"trainer": {"max_epochs": 20}, "tracking": {"mode": "disabled"}}
        >>> found = torchplug.cross_validate(config, TabularData("diabetes"), folds=5, **options)  # doctest: +SKIP
        >>> found.mean["rmse"], found.interval["rmse"]  # doctest: +SKIP
    """
    job = CrossValidating(config, data, folds, repeats, trainer or {}, Tracking.of(tracking), name, root, seed, resume)
    try:
        return job.run()
    except Unfinished as stop:
        raise stop.told("cross-validation") from stop


@dataclass(frozen=True)
class CrossValidating:
    """A cross-validation to be made; the arguments are those of `cross_validate`."""

    config: Mapping[str, Any]
    data: TabularData
    folds: Folds
    repeats: int
    trainer: Mapping[str, Any]
    tracking: Tracking
    name: str
    root: str | Path
    seed: int
    resume: str | Path | None

    def run(self) -> CrossValidation:
        """Train and evaluate, and write the run directory.

        Raises:
            TorchplugError: for input that is refused.
            Unfinished: if a signal stopped it.
        """
        settings = one_process(self.trainer, "cross_validate")
        chosen(self.tracking)
        divided = self._divided()
        results, run = fit_all(
            [{**self.config, "seed": self.seed}],
            self.data,
            divided,
            trainer=self.trainer,
            tracking=Tracking(mode="disabled"),  # sent below, fold by fold
            name=self.name,
            root=self.root,
            ckpt_path=self.resume,
        )
        run.write_config(self._written(run))
        modules = [result.module for result in results]
        evaluated = [
            out_of_fold(module, self.data, fold, number, settings.trainer)
            for number, (module, fold) in enumerate(zip(modules, divided, strict=True))
        ]
        found = CrossValidation.of(evaluated, results, run)
        of_folds = [note for result in results for note in result.run.notes]
        self._write(found, [*of_folds, *(note for own in evaluated for note in own.notes)])
        directions = modules[0].resolved.metric_choice.directions
        tracked.send(found, self.tracking, directions, self.resume is not None)
        return found

    @cached_property
    def _configuration(self) -> Configuration:
        return unseeded(self.config, "cross_validate")

    def _divided(self) -> list[Fold]:
        """The rows of each fold, none of them of the test split."""
        kind = self._configuration.module().loss.kind
        if not isinstance(self.folds, int) and self.repeats != 1:
            raise DataError("the rows of the folds are given, so repeats has no effect: leave it out")
        return divided(self.data, self.folds, kind=kind, seed=self.seed, repeats=self.repeats)

    def _written(self, run: Run) -> str:
        """The settings of the run as YAML: those of `fit_many`, and those of the folds."""
        folds = self.folds if isinstance(self.folds, int) else "given"
        own = {"cross_validate": {"folds": folds, "repeats": self.repeats, "seed": self.seed}}
        settings = {**own, **run.config, "tracking": asdict(self.tracking)}
        text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        return text

    def _write(self, found: CrossValidation, notes: Sequence[str]) -> None:
        """Write tables, ensemble, picture and notes into the run directory."""
        run = found.run
        run.write_table("folds.csv", found.table)
        run.write_table("out_of_fold.csv", found.predictions)
        found.ensemble.save_checkpoint(run.ensemble, self.data)
        drawn = []
        if pictures.available():
            preprocessing = found.ensemble.members[0].preprocessing
            assert preprocessing is not None, "it is trained"
            draw(found.predictions, run.path / "out_of_fold.png", preprocessing.target_coding.labels)
        else:
            drawn = [pictures.INSTALL]
        run.write_notes(list(dict.fromkeys([*run.notes, *notes, *self._remarks(found), *drawn])))

    def _remarks(self, found: CrossValidation) -> list[str]:
        """What the user should know of the metrics."""
        settings, remarks = TrainerSettings(self.trainer), []
        monitors = [*settings.monitors, watched_by(self._configuration.components)]
        if any(monitor is not None and monitor.startswith("val/") for monitor in monitors):
            remarks.append(
                "training watches metrics of the fold that is held out (EarlyStopping or the schedule, such as by its "
                "stop_early), so that all metrics of it are optimistic"
            )
        if found.undefined:
            remarks.append(f"undefined in at least one fold: {', '.join(found.undefined)}")
        remarks += [f"fold {number}: {found.results[number].outcome.reason}" for number in found.stalled]
        return remarks
