"""A search to be made: checked, then trained by one process or several, and written down."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug import interruption
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.fitting.config import written_config
from torchplug.many.configurations import Configuration, Configurations
from torchplug.many.settings import TrainerSettings
from torchplug.registry import registry
from torchplug.registry.component import Direction
from torchplug.settings.groups import near
from torchplug.tracking.choices import chosen
from torchplug.tracking.flat_config import flat_config
from torchplug.tracking.provenance import provenance
from torchplug.tracking.row_file import RowFile
from torchplug.tracking.run import Run, runs
from torchplug.tracking.settings import Tracking
from torchplug.tracking.whole_files import locked
from torchplug.workflow.search.batches import Batches, Fold
from torchplug.workflow.search.concluding import Conclusion
from torchplug.workflow.search.helpers import Helpers, helping, refuse_own_classes
from torchplug.workflow.search.progress import SearchProgress, progress
from torchplug.workflow.search.pruning import Pruner, build_pruner, refuse_pruner
from torchplug.workflow.search.ranges import Searched
from torchplug.workflow.search.result import SearchResult, best_of
from torchplug.workflow.search.samplers import Sampler, build_sampler, chosen_sampler, planned, together
from torchplug.workflow.search.settings import Base, Values
from torchplug.workflow.search.space import Space
from torchplug.workflow.search.storage import JOURNAL, open_database, open_journal, refuse_missing
from torchplug.workflow.search.study import Study, join
from torchplug.workflow.search.sweep import sweep
from torchplug.workflow.search.workers import Workers
from torchplug.workflow.unfinished import Unfinished

_TABLES = ("source", "validation", "test")
_UNITS = ("data.standardize_target",)
"""Settings beside those of the loss on which the unit of losses depends."""


@dataclass(frozen=True)
class Searching:
    """A search to be made; the arguments are those of `search`, and

    Args:
        written: the settings that are not searched, as a configuration file has them; None: those of the arguments.
        notes: what the user should know besides.
        remedy: how to go on after an interruption; None: by `resume`.
    """

    config: Mapping[str, Any]
    data: TabularData
    grid: Searched | None
    random: Searched | None
    trials: int | None
    sampler: Sampler | None
    pruner: Pruner
    folds: int | None
    jobs: int
    resume: str | Path | None
    storage: str | None
    study: str | None
    metric: str
    repeats: int
    trainer: Mapping[str, Any]
    tracking: Tracking
    name: str
    root: str | Path
    seed: int
    written: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    remedy: Callable[[Run], str] | None = None

    def run(self) -> SearchResult:
        """Train all trials, and write the run directory.

        Raises:
            TorchplugError: for input that is refused.
            Unfinished: if a signal stopped it.
        """
        self._refuse()
        study, run, workers = self._begin()
        interruption.explain(lambda: f"; {self.how_to_go_on(run)}")
        with workers.present():
            self._describe(run)
            study.plan(self._planned)
            try:
                with helping(self._given_to_helpers(run), self.jobs - 1) as helpers:
                    notes = self._work(study, run, helpers)
                    return self._conclude(study, run, notes)
            except (Unfinished, KeyboardInterrupt) as stop:  # the latter between two batches
                self._keep(study, run)
                raise Unfinished(run) from stop

    def help(self) -> None:
        """Train trials of a search that another process concludes.

        Raises:
            Unfinished: if a signal stopped it.
        """
        self._refuse()
        study, run, workers = self._begin()
        with workers.present():
            self._train(study, run, None)

    def sweep(self, program: str, fixed: Mapping[str, Any]) -> dict[str, Any]:
        """Return the search as a sweep of Weights & Biases.

        Args:
            program: the recipe's file.
            fixed: settings that are given, by name.

        Raises:
            TorchplugError: for input that is refused.
        """
        self._refuse()
        return sweep(
            self.space,
            program=program,
            sampler=self._sampler,
            metric=self.metric,
            direction=self.direction,
            trials=self.trials,
            fixed=fixed,
        )

    # ------------------------------------------------------------------ what is checked before anything is written

    @cached_property
    def base(self) -> Base:
        """The settings that are not searched."""
        return Base(self.config, self.data, self.trainer)

    @cached_property
    def space(self) -> Space:
        """What is searched."""
        return Space(self.base, self.grid, self.random)

    @cached_property
    def batches(self) -> Batches:
        """What trains."""
        return Batches(self.base, self._folds, self.metric, self.pruner, self.seed)

    @cached_property
    def _sampler(self) -> Sampler:
        return chosen_sampler(self.sampler, self.space)

    @cached_property
    def _planned(self) -> list[Values]:
        return planned(self._sampler, self.space, self.trials, self.seed)

    @cached_property
    def _checked(self) -> list[tuple[Configuration, TabularData]]:
        """Every structure of the search, and its table, prepared."""
        return [self.batches.check(values) for values in self.space.structures]

    @cached_property
    def direction(self) -> Direction:
        """Which value of the metric is the best."""
        directions = self._checked[0][0].components.metric_choice.directions
        return directions[self.metric.rpartition("/")[2].removeprefix("epoch_")]

    @cached_property
    def settings(self) -> TrainerSettings:
        """The Trainer's."""
        return TrainerSettings(self.trainer)

    def _refuse(self) -> None:
        refuse_missing()
        for name, least in (("jobs", 1), ("repeats", 0)):
            if getattr(self, name) < least:
                raise ConfigurationError(f"--{name} must be at least {least}, not {getattr(self, name)}")
        if "seed" in self.config:
            raise ConfigurationError("config has no seed here: give seed to search")
        chosen(self.tracking)
        if self.tracking.log_checkpoint:
            raise ConfigurationError(
                "--tracking.log_checkpoint: a search keeps no checkpoints; fit --config best.yaml afterwards, with it"
            )
        if self.settings.trainer.world_size > 1:
            raise ConfigurationError("a search trains each model in one process: leave out devices, and give --jobs")
        self.settings.refuse_in_run()
        Configurations().read(self.config)
        assert self.space, "it is checked"
        assert self._planned, "there is at least one"
        refuse_pruner(self.pruner, self.metric, self.folds or 0)
        self._refuse_metric()
        if self.jobs > 1:
            refuse_own_classes({"config": self.config, "trainer": self.trainer})

    def _refuse_metric(self) -> None:
        """Refuse a metric that is not known of all trials, or not comparable between them."""
        for configuration, table in self._checked:
            if self.metric.startswith("val/") and not table.sizes["validation"]:
                raise ConfigurationError("there are no validation rows to compare by: give --data.split, or --folds")
            names = configuration.components.metric_choice.watchable(bool(table.sizes["validation"]))
            if self.metric not in names:
                raise ConfigurationError(
                    f"--metric {self.metric} is none of {', '.join(names)}; {near(self.metric, names)}"
                )
        units = [name for name in self.space.described() if name.startswith("model.loss") or name in _UNITS]
        if units and self.metric.endswith("loss"):
            raise ConfigurationError(
                f"{units[0]} changes what {self.metric} measures, so that trials could not be compared by it: give "
                "another --metric, such as val/rmse or val/accuracy"
            )

    @cached_property
    def _folds(self) -> Sequence[Fold] | None:
        if self.folds is None:
            return None
        kind = Configurations().read(self.config).module().loss.kind
        return self.data.folds(self.folds, seed=self.seed, kind=kind)

    # ------------------------------------------------------------------ the run directory and the study

    def _begin(self) -> tuple[Study, Run, Workers]:
        """Join the study, and make the run directory or open the one that is resumed."""
        resumed = None if self.resume is None else self._resumed(self.resume)
        before = {} if resumed is None else resumed.config["search"]
        url, name = self.storage or before.get("storage"), self.study or before.get("study") or self.name
        # may refuse, before there is a run directory
        joined = None if url is None else self._join(open_database(url), name)
        run = resumed or Run.create(self.name, self.root)
        workers = Workers(run.path / "workers")
        study = joined if joined is not None else self._join(open_journal(run.path / JOURNAL), name)
        return Study(study, self.space, workers, is_alone=joined is None), run, workers

    def _resumed(self, path: str | Path) -> Run:
        if str(path) == "last":
            found = runs(Path(self.root) / self.name)
            if not found:
                raise ConfigurationError(f"there is no run in {Path(self.root) / self.name} yet: search without resume")
            return found[-1]
        run = Run.open(path)
        if "search" not in run.config:
            raise ConfigurationError(f"{path} is no run of a search: name one, or search without resume")
        return run

    def _join(self, storage: Any, name: str) -> Any:
        return join(
            storage,
            name,
            self._identity,
            direction=self.direction,
            sampler=build_sampler(self._sampler, self.seed, str(id(storage))),
            pruner=build_pruner(self.pruner),
        )

    @cached_property
    def configuration(self) -> dict[str, Any]:
        """The settings that are not searched, as a configuration file has them."""
        if self.written is not None:
            return dict(self.written)
        module = Configurations().read(self.config).module()
        return written_config(module, self.data, self.trainer, self.tracking, self.seed)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What all processes that work on the study must agree in."""
        groups = {group: self.configuration[group] for group in ("model", "data", "trainer")}
        settings = flat_config(groups)
        for table in _TABLES:  # the same file may lie elsewhere on another machine
            settings.pop(f"data/{table}", None)
        own = {"sampler": self._sampler, "pruner": self.pruner, "metric": self.metric, "folds": self.folds}
        return {
            "recipe": self.name,
            **{f"search of {name}": values for name, values in self.space.described().items()},
            **own,
            "seed": self.seed,
            "table": self._checked[0][1].fingerprint,
            **settings,
        }

    def _given_to_helpers(self, run: Run) -> dict[str, Any]:
        tables = {name: table for name, table in self.data.sources.items() if not isinstance(table, str)}
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**own, "data": {**self.data.hparams, **tables}, "resume": str(run.path), "jobs": 1, "remedy": None}

    # ------------------------------------------------------------------ the work

    def _work(self, study: Study, run: Run, helpers: Helpers | None) -> list[str]:
        """Train until no trial waits; returns notes."""
        notes: list[str] = []
        with progress(len(self._planned), self.settings.shows_progress) as bar:
            bar.show(*self._so_far(study))
            self._train(study, run, bar)
            if helpers is not None:
                notes = [f"a process of --jobs ended early: {text}" for text in helpers.wait()]
                if interruption.requested():
                    raise Unfinished(run)
                self._train(study, run, bar)  # what those had taken that were killed
        return notes

    def _train(self, study: Study, run: Run, bar: SearchProgress | None) -> None:
        rows = RowFile(run.metrics_file)
        while asked := study.ask(together(self._sampler, self.pruner == "wilcoxon", study.waiting(), self.jobs)):
            for ended in self.batches.train(asked, study, bar.advance if bar is not None else lambda trials: None):
                _keep_first()  # training has ended that
                if ended.result is None:
                    study.give_back(ended.asked)
                    continue
                study.tell(ended.asked, ended.result)
                with locked(run.path / ".rows.lock"):
                    rows.append(ended.rows)
            if interruption.requested():
                raise Unfinished(run)
            interruption.no_longer_defer()
            if bar is not None:
                bar.show(*self._so_far(study))

    # ------------------------------------------------------------------ the end

    def _describe(self, run: Run) -> None:
        """Write what is searched, and where it comes from."""
        if self.resume is not None:
            return
        own = {
            **self.space.described_by_option(),
            **{name: getattr(self, name) for name in ("trials", "pruner", "folds", "storage", "study", "metric")},
            "sampler": self._sampler,
            "repeats": self.repeats,
        }
        text = yaml.safe_dump({"search": own, **self.configuration}, sort_keys=False, allow_unicode=True)
        run.write_config(text)
        entries = {part.entry: None for own, _ in self._checked for part in own.components.components}
        run.write_provenance(provenance(registry().plugins, entries, self._checked[0][1].fingerprint, self.seed))

    def _conclude(self, study: Study, run: Run, notes: Sequence[str]) -> SearchResult:
        """Write what came of it; one process at a time."""
        configuration, table = self._checked[0]
        conclusion = Conclusion(
            study=study,
            run=run,
            space=self.space,
            batches=self.batches,
            base=self.base,
            configuration=self.configuration,
            metric=self.metric,
            direction=self.direction,
            directions=configuration.components.metric_choice.directions,
            planned=len(self._planned),
            repeats=self.repeats,
            seed=self.seed,
            tracking=self.tracking,
            notes=list(dict.fromkeys([*self.notes, *table.notes, *notes])),
            resumed=self.resume is not None,
        )
        with locked(run.path / ".end.lock"):
            return conclusion.conclude()

    def _keep(self, study: Study, run: Run) -> None:
        """Write what is done of a search that was interrupted."""
        _keep_first()
        self._conclude(study, run, [])

    def how_to_go_on(self, run: Run) -> str:
        """What is told after an interruption."""
        return f"go on with resume={os.path.relpath(run.path)!r}" if self.remedy is None else self.remedy(run)

    def _so_far(self, study: Study) -> tuple[int, str]:
        finished = study.finished()
        best = best_of(finished, self.direction)
        shown = "" if best is None else f"{self.metric} {best.result.value:.6g} (trial {best.number})"
        return len(finished), shown


def _keep_first() -> None:
    """Let a signal wait until what is done is kept."""
    if interruption.is_handled():
        interruption.defer(alone=True)
    if interruption.requested():
        interruption.reach_boundary()
