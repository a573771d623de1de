"""The work of a search: trials are trained by one process or several, and written down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug import interruption
from torchplug.errors import ConfigurationError
from torchplug.registry import registry
from torchplug.tracking.provenance import provenance
from torchplug.tracking.row_file import RowFile
from torchplug.tracking.run import Run, runs
from torchplug.tracking.whole_files import locked
from torchplug.workflow.search.concluding import Conclusion
from torchplug.workflow.search.helpers import Helpers, helping
from torchplug.workflow.search.planning import Plan
from torchplug.workflow.search.progress import SearchProgress, progress
from torchplug.workflow.search.pruning import build_pruner
from torchplug.workflow.search.result import SearchResult, best_of
from torchplug.workflow.search.samplers import build_sampler, together
from torchplug.workflow.search.storage import JOURNAL, open_database, open_journal
from torchplug.workflow.search.study import Study, join
from torchplug.workflow.search.workers import Workers
from torchplug.workflow.unfinished import Unfinished, how_to_go_on


@dataclass(frozen=True)
class Searching:
    """The work of a search.

    Args:
        plan: what is searched.
    """

    plan: Plan

    def run(self) -> SearchResult:
        """Train all trials, and write the run directory.

        Raises:
            TorchplugError: for input that is refused.
            Unfinished: if a signal stopped it.
        """
        self.plan.refuse()
        study, run, workers = self._begin()
        interruption.explain(lambda: f"; {self.how_to_go_on(run)}")
        with workers.present():
            self._describe(run)
            study.plan(self.plan.planned)
            try:
                with helping(self._given_to_helpers(run), self.plan.jobs - 1) as helpers:
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
        self.plan.refuse()
        study, run, workers = self._begin()
        with workers.present():
            self._train(study, run, None)

    # ------------------------------------------------------------------ the run directory and the study

    def _begin(self) -> tuple[Study, Run, Workers]:
        """Join the study, and make the run directory or open the one that is resumed."""
        resumed = None if self.plan.resume is None else self._resumed(self.plan.resume)
        before = {} if resumed is None else resumed.config["search"]
        url, name = self.plan.storage or before.get("storage"), self.plan.study or before.get("study") or self.plan.name
        # may refuse, before there is a run directory
        joined = None if url is None else self._join(open_database(url), name)
        run = resumed or Run.create(self.plan.name, self.plan.root)
        workers = Workers(run.path / "workers")
        study = joined if joined is not None else self._join(open_journal(run.path / JOURNAL), name)
        return Study(study, self.plan.space, workers, is_alone=joined is None), run, workers

    def _resumed(self, path: str | Path) -> Run:
        if str(path) == "last":
            family = Path(self.plan.root) / self.plan.name
            if not (found := runs(family)):
                raise ConfigurationError(f"there is no run in {family} yet: search without resume")
            return found[-1]
        run = Run.open(path)
        if "search" not in run.config:
            raise ConfigurationError(f"{path} is no run of a search: name one, or search without resume")
        return run

    def _join(self, storage: Any, name: str) -> Any:
        return join(
            storage,
            name,
            self.plan.identity,
            direction=self.plan.direction,
            sampler=build_sampler(self.plan.method, self.plan.seed, str(id(storage))),
            pruner=build_pruner(self.plan.pruner),
        )

    def _given_to_helpers(self, run: Run) -> dict[str, Any]:
        tables = {name: table for name, table in self.plan.data.sources.items() if not isinstance(table, str)}
        own = {field.name: getattr(self.plan, field.name) for field in fields(self.plan)}
        return {**own, "data": {**self.plan.data.hparams, **tables}, "resume": str(run.path), "jobs": 1, "remedy": None}

    # ------------------------------------------------------------------ the work

    def _work(self, study: Study, run: Run, helpers: Helpers | None) -> list[str]:
        """Train until no trial waits; returns notes."""
        notes: list[str] = []
        with progress(len(self.plan.planned), self.plan.settings.shows_progress) as bar:
            bar.show(*self._so_far(study))
            self._train(study, run, bar)
            if helpers is not None:
                notes = [f"a process of --jobs ended early: {text}" for text in helpers.wait()]
                if interruption.requested():
                    raise Unfinished(run)
                self._train(study, run, bar)  # what those had taken that were killed
        return notes

    def _train(self, study: Study, run: Run, bar: SearchProgress | None) -> None:
        rows, plan = RowFile(run.metrics_file), self.plan
        while asked := study.ask(together(plan.method, plan.pruner == "wilcoxon", study.waiting(), plan.jobs)):
            for ended in plan.batches.train(asked, study, bar.advance if bar is not None else lambda trials: None):
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
        if self.plan.resume is not None:
            return
        own = {
            **self.plan.space.described_by_option(),
            **{name: getattr(self.plan, name) for name in ("trials", "pruner", "folds", "storage", "study", "metric")},
            "sampler": self.plan.method,
            "repeats": self.plan.repeats,
        }
        text = yaml.safe_dump({"search": own, **self.plan.configuration}, sort_keys=False, allow_unicode=True)
        run.write_config(text)
        checked = self.plan.checked
        entries = {part.entry: None for own, _ in checked for part in own.components.components}
        run.write_provenance(provenance(registry().plugins, entries, checked[0][1].fingerprint, self.plan.seed))

    def _conclude(self, study: Study, run: Run, notes: Sequence[str]) -> SearchResult:
        """Write what came of it; one process at a time."""
        configuration, table = self.plan.checked[0]
        conclusion = Conclusion(
            study=study,
            run=run,
            space=self.plan.space,
            batches=self.plan.batches,
            base=self.plan.base,
            configuration=self.plan.configuration,
            metric=self.plan.metric,
            direction=self.plan.direction,
            directions=configuration.components.metric_choice.directions,
            planned=len(self.plan.planned),
            repeats=self.plan.repeats,
            seed=self.plan.seed,
            tracking=self.plan.tracking,
            notes=list(dict.fromkeys([*self.plan.notes, *table.notes, *notes])),
            resumed=self.plan.resume is not None,
        )
        with locked(run.path / ".end.lock"):
            return conclusion.conclude()

    def _keep(self, study: Study, run: Run) -> None:
        """Write what is done of a search that was interrupted."""
        _keep_first()
        self._conclude(study, run, [])

    def how_to_go_on(self, run: Run) -> str:
        """What is told after an interruption."""
        return how_to_go_on(run) if self.plan.remedy is None else self.plan.remedy(run)

    def _so_far(self, study: Study) -> tuple[int, str]:
        finished = study.finished()
        best = best_of(finished, self.plan.direction)
        shown = "" if best is None else f"{self.plan.metric} {best.result.value:.6g} (trial {best.number})"
        return len(finished), shown


def _keep_first() -> None:
    """Let a signal wait until what is done is kept."""
    if interruption.is_handled():
        interruption.defer(alone=True)
    if interruption.requested():
        interruption.reach_boundary()
