"""`torchplug.fit_ensemble`: several models trained together, which predict as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from torchplug.data.folds import Fold
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError, DataError
from torchplug.evaluation.calibration import takes_intervals
from torchplug.fit_result import FitResult
from torchplug.many.evaluation import ensemble_metrics
from torchplug.many.settings import TrainerSettings
from torchplug.tables import enumerate_names
from torchplug.tracking.choices import chosen
from torchplug.tracking.ensemble import Ensemble
from torchplug.tracking.jsonl import JsonlLogger
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.workflow.cross_validation.out_of_fold import out_of_fold, pooled
from torchplug.workflow.ensemble import tracked
from torchplug.workflow.ensemble.members import By, configurations, rows
from torchplug.workflow.ensemble.result import EnsembleFit, usable
from torchplug.workflow.requirements import one_process, unseeded
from torchplug.workflow.unfinished import Unfinished, fit_all
from torchplug.workflow.writing import as_yaml


def fit_ensemble(
    config: Mapping[str, Any],
    data: TabularData,
    *,
    members: int = 8,
    by: By = "seed",
    trainer: Mapping[str, Any] | None = None,
    tracking: Mapping[str, Any] | Tracking | None = None,
    name: str = "fit_ensemble",
    root: str | Path = "runs",
    seed: int = 0,
    resume: str | Path | None = None,
) -> EnsembleFit:
    r"""Train M models that differ in seed, bootstrap sample or fold, and average their predictions.

        ŷ = (1/M) Σ_m ŷ_m,    spread² = (1/M) Σ_m (ŷ_m − ŷ)²

    Members of one structure are trained as one program (`fit_many`), and each keeps the epoch of its lowest `val/loss`,
    as its own fit would. The run directory has checkpoints/ensemble.ckpt, which `torchplug.load` and the recipes'
    `predict`, `validate` and `test` read. A member that diverges is left out, with a note.

    Args:
        config: ComponentModule's parameters.
        data: the table.
        members: M ≥ 2.
        by: what members differ in. `seed`: member m is the fit of seed + m, with its own start and dropout; rows and
            their order are those of all. `bootstrap`: it is trained on sample m of `TabularData.bootstrap`, a table of
            as many rows as train, drawn with replacement, from which minibatches are taken as from any table; the
            validation split is shared. `folds`: it is trained on all but fold m of M, and validated on that.
        trainer: parameters of Lightning's Trainer, such as `max_epochs`.
        tracking: W&B's settings (`Tracking`), such as `{"mode": "disabled"}`; the ensemble is one W&B run.
        name: the folder of the run's family, below `root`.
        root: the folder of all runs.
        seed: of the first member's start and dropout, and of samples and folds, 0 or more.
        resume: the directory of a run that was interrupted, or `last`.

    Returns:
        the ensemble, its metrics on the validation split beside its members', the fits and the run.

    Raises:
        ConfigurationError: for components or settings that do not exist or do not go together, and members that would
            be equal.
        DataError: for a table that cannot be used or divided so.
        TrainingError: if no member could be trained.
        CheckpointError: if there is no run to resume, or it is one of other settings.
        KeyboardInterrupt: after Ctrl-C; what was trained is kept, and `resume` goes on.

    Reference: Lakshminarayanan, Pritzel and Blundell (2017), arXiv 1612.01474; Breiman (1996), doi:10.1007/BF00058655.

    Example:
        >>> import torchplug
        >>> from torchplug import TabularData, use
        >>> config = {"model": use("mlp", hidden=[16]), "optimizer": use("adam", lr=0.01)}
        >>> options = {"trainer": {"max_epochs": 20}, "tracking": {"mode": "disabled"}}
        >>> found = torchplug.fit_ensemble(config, TabularData("diabetes"), members=4, **options)  # doctest: +SKIP
        >>> found.ensemble.predict(frame, spread=True)  # doctest: +SKIP
    """
    job = Ensembling(config, data, members, by, trainer or {}, Tracking.of(tracking), name, root, seed, resume)
    try:
        return job.run()
    except Unfinished as stop:
        raise stop.told("the fit of an ensemble") from stop


@dataclass(frozen=True)
class Ensembling:
    """An ensemble to be trained; the arguments are those of `fit_ensemble`."""

    config: Mapping[str, Any]
    data: TabularData
    members: int
    by: By
    trainer: Mapping[str, Any]
    tracking: Tracking
    name: str
    root: str | Path
    seed: int
    resume: str | Path | None

    def run(self) -> EnsembleFit:
        """Train and evaluate, and write the run directory.

        Raises:
            TorchplugError: for input that is refused, or if no member could be trained.
            Unfinished: if a signal stopped it.
        """
        settings = one_process(self.trainer, "an ensemble")
        chosen(self.tracking)
        self._refuse(settings)
        results, run = self._train()
        found = self._put_together(results, run, settings)
        self._write(found)
        directions = found.ensemble.members[0].resolved.metric_choice.directions
        tracked.send(found, self.tracking, directions, self.resume is not None)
        return found

    def _refuse(self, settings: TrainerSettings) -> None:
        if not isinstance(self.members, int) or self.members < 2:
            raise ConfigurationError(f"an ensemble has at least 2 members, not {self.members}")
        if self.by not in get_args(By):
            raise ConfigurationError(f"members differ by one of {enumerate_names(get_args(By))}, not by {self.by}")
        if settings.trainer.fast_dev_run:  # type: ignore[attr-defined]
            raise ConfigurationError("fast_dev_run tries one fit and keeps nothing of it: leave the ensemble out")
        if self.data.stream:
            raise DataError("stream leaves tables on disk, and an ensemble needs them in memory: leave out stream")

    @cached_property
    def _rows(self) -> list[Fold] | None:
        """The rows that train and validate, of each member; None where all have those of the split."""
        return rows(self.data, self.members, self.by, self.seed, unseeded(self.config, "fit_ensemble"))

    def _train(self) -> tuple[list[FitResult], Run]:
        results, run = fit_all(
            configurations(self.config, self.members, self.by, self.seed),
            self.data,
            self._rows,
            trainer=self.trainer,
            tracking=Tracking(mode="disabled"),  # the ensemble is sent as one run
            name=self.name,
            root=self.root,
            ckpt_path=self.resume,
            epoch="best",
            replacement=self.by == "bootstrap",
        )
        own = {"ensemble": {"members": self.members, "by": self.by, "seed": self.seed}}
        run.write_config(as_yaml({**own, **run.config, "tracking": asdict(self.tracking)}))
        return results, run

    def _put_together(self, results: Sequence[FitResult], run: Run, settings: TrainerSettings) -> EnsembleFit:
        used = usable(results)
        ensemble = Ensemble([results[number].module for number in used])
        metrics = (
            self._out_of_fold(ensemble, used, settings.trainer)
            if self.by == "folds"
            else self._validated(ensemble, settings.trainer)
        )
        names = [name for name in results[used[0]].metrics if name.startswith("val/")]
        return EnsembleFit(
            ensemble=ensemble,
            metrics=metrics,
            members={name: [_number(results[number], name) for number in used] for name in names},
            results=results,
            left_out=[number for number in range(self.members) if number not in used],
            run=run,
        )

    def _validated(self, ensemble: Ensemble, trainer: Any) -> dict[str, float]:
        """Calibrate the averaged predictions on the validation split, which all members share; return their metrics."""
        data = self.data.copied()
        data.trainer = trainer
        data.prepare(ensemble.members[0].data_request())
        if not data.sizes["validation"]:
            return {}
        if takes_intervals(ensemble.members[0].loss):
            ensemble.calibrate_on(data.frame_of("validation"))
        return ensemble_metrics(ensemble, data, "validation")

    def _out_of_fold(self, ensemble: Ensemble, used: Sequence[int], trainer: Any) -> dict[str, float]:
        """Calibrate on each row by the member that was not trained on it; no row has metrics of the average."""
        assert self._rows is not None, "each member has its fold"
        folds = [self._rows[number] for number in used]
        evaluated = [
            out_of_fold(member, self.data, fold, number, trainer)
            for number, member, fold in zip(used, ensemble.members, folds, strict=True)
        ]
        ensemble.calibration = pooled(evaluated, ensemble.members[0].loss)
        for member in ensemble.members:
            member.calibration = ensemble.calibration
        return {}

    def _write(self, found: EnsembleFit) -> None:
        """Write checkpoint, final row and notes into the run directory."""
        run = found.run
        found.ensemble.save_checkpoint(run.ensemble, self.data)
        _write_final(run, tracked.final_values(found))
        left_out = [f"member {number} is left out: {found.results[number].outcome.reason}" for number in found.left_out]
        run.write_notes(list(dict.fromkeys([*run.notes, *left_out])))


def _write_final(run: Run, values: Mapping[str, Any]) -> None:
    """Append the row of all members together."""
    rows: Sequence[Mapping[str, Any]] = JsonlLogger(run).read()
    JsonlLogger(run).log_metrics(values, max((row["step"] for row in rows), default=0))


def _number(result: FitResult, name: str) -> float:
    value = result.metrics[name]
    return float("nan") if value is None else value
