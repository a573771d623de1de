"""The end of a search: the best trial repeated, and what the run directory keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]

from torchplug.registry.component import Direction
from torchplug.terminal import one_line
from torchplug.tracking.run import Run
from torchplug.tracking.settings import Tracking
from torchplug.tracking.whole_files import whole_file
from torchplug.workflow import pictures
from torchplug.workflow.search import pictures as drawn
from torchplug.workflow.search.batches import Batches
from torchplug.workflow.search.remarks import remarks
from torchplug.workflow.search.result import Repeats, SearchResult, best_of, table_of
from torchplug.workflow.search.settings import Base
from torchplug.workflow.search.space import Space
from torchplug.workflow.search.study import Finished, Study
from torchplug.workflow.search.tracked import send

BEST = "best.yaml"
TRIALS = "trials.csv"
PICTURES = ("importances.png", "coordinates.png", "slices.png")


@dataclass(frozen=True)
class Conclusion:
    """What is written when no trial waits any more, or training was interrupted.

    Args:
        study: of the trials.
        run: the run directory.
        space: what is searched.
        batches: trains the repetitions.
        base: the settings that are not searched.
        configuration: these as a configuration file has them.
        metric: what trials are compared by.
        direction: which value of it is the best.
        directions: of all metrics, whatever their split.
        planned: how many trials there are.
        repeats: how many seeds the best trial is trained from.
        seed: of the search.
        tracking: W&B's settings.
        notes: what is known before.
        resumed: whether the run was begun before.
    """

    study: Study
    run: Run
    space: Space
    batches: Batches
    base: Base
    configuration: Mapping[str, Any]
    metric: str
    direction: Direction
    directions: Mapping[str, Direction]
    planned: int
    repeats: int
    seed: int
    tracking: Tracking
    notes: Sequence[str]
    resumed: bool

    def conclude(self) -> SearchResult:
        """Repeat the best trial if all have ended, and write what there is."""
        finished = self.study.finished()
        best = best_of(finished, self.direction)
        is_finished = len(finished) >= self.planned
        repeats = self._repeated(best) if is_finished and best is not None and self.repeats else None
        found = self._result(finished, best, repeats)
        self._write(found, finished, best)
        if is_finished:
            self._end(found, finished)
        return found

    def _repeated(self, best: Finished) -> Repeats:
        """The best trial from other seeds: what the study has of it, or trained now."""
        seeds = [self.seed + 1 + place for place in range(self.repeats)]
        stored = self.study.repeats
        if stored is not None and stored["trial"] == best.number and stored["seeds"] == seeds:
            return Repeats(seeds, stored["values"])
        values = self.batches.repeat(best.values, seeds)
        self.study.repeats = {"trial": best.number, "seeds": seeds, "values": values}
        return Repeats(seeds, values)

    def _result(self, finished: Sequence[Finished], best: Finished | None, repeats: Repeats | None) -> SearchResult:
        trial = None if best is None else self.base.trial(best.values)
        names = list(self.space.described())
        left = self.planned - len(finished)
        notes = [*self.notes]
        if self.batches.shared:
            others = any(own.worker != self.study.worker for own in finished)
            notes.append(f"trained {self.batches.shared}{', and others in other processes' if others else ''}")
        notes += remarks(finished, best, self.space, repeats, self.metric, self.direction)
        if left and (running := self.study.running()):
            notes.append(f"{running} trials are under way in other processes, and {left - running} wait")
        return SearchResult(
            trials=table_of(finished, names, self.metric),
            metric=self.metric,
            direction=self.direction,
            best=None if best is None else best.values,
            best_trial=None if best is None else best.number,
            best_value=None if best is None else best.result.value,
            config=None if trial is None else trial.config,
            data=None if trial is None else self.base.table(trial),
            trainer=None if trial is None else trial.trainer,
            repeats=repeats,
            importances=self.study.importances(),
            planned=self.planned,
            shared=str(self.batches.shared),
            notes=[one_line(note) for note in notes],
            run=self.run,
        )

    # ------------------------------------------------------------------ the run directory

    def _write(self, found: SearchResult, finished: Sequence[Finished], best: Finished | None) -> None:
        """Write tables, the best configuration and pictures."""
        run = self.run
        run.write_table(TRIALS, found.trials)
        notes = list(found.notes)
        if best is not None:
            settings = self.base.written(self.base.trial(best.values), self.configuration)
            self._write_file(BEST, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
            if pictures.available():
                self._draw(found, finished, best)
            else:
                notes.append(pictures.INSTALL)
        run.write_notes(notes)

    def _draw(self, found: SearchResult, finished: Sequence[Finished], best: Finished) -> None:
        """Draw the trials that have a value."""
        valued = [own for own in finished if own.result.state == "complete"]
        importances, coordinates, slices = (self.run.path / name for name in PICTURES)
        dimensions = [one for one in self.space.dimensions if any(one.name in own.values for own in valued)]
        drawn.draw_slices(valued, best, dimensions, self.metric, slices)
        if len(valued) > 1:
            drawn.draw_coordinates(valued, dimensions, self.metric, self.direction, coordinates)
        if found.importances:
            drawn.draw_importances(found.importances, importances)

    def _end(self, found: SearchResult, finished: Sequence[Finished]) -> None:
        """Tell Weights & Biases, and write the outcome: a run that has one is finished."""
        states = Counter(own.result.state for own in finished)
        counted = ", ".join(f"{count} {state}" for state, count in states.most_common())
        outcome = {
            "name": "finished",
            "reason": f"{len(finished)} trials: {counted}",
            "remedy": "",
            "epochs": max(own.result.epochs for own in finished),
            "steps": 0,
            "trial": found.best_trial,
            "value": found.best_value,
        }
        if self.run.outcome == outcome:
            return  # nothing was left to be done
        configs = [self._tracked(own) for own in finished]
        send(finished, configs, self.run, self.tracking, self.directions, self.resumed)
        self.run.write_outcome(outcome)

    def _tracked(self, trial: Finished) -> dict[str, Any]:
        settings = self.base.written(self.base.trial(trial.values), self.configuration)
        return {group: settings[group] for group in ("model", "data", "trainer")}

    def _write_file(self, name: str, text: str) -> None:
        with whole_file(self.run.path / name) as file:
            file.write(text.encode())
