"""The study: which trials are planned, under way and finished, shared by all processes that work on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from torchplug.errors import CheckpointError
from torchplug.registry.component import Direction
from torchplug.workflow.search.settings import Values
from torchplug.workflow.search.space import Space
from torchplug.workflow.search.storage import quiet
from torchplug.workflow.search.workers import Workers

if TYPE_CHECKING:
    import optuna

_IDENTITY, _REPEATS = "torchplug", "repeats"
_NUMBER, _WORKER, _RESULT = "number", "worker", "result"
_SHOWN = 60
_TAKING = timedelta(minutes=1)
"""By far longer than a process needs to take a trial."""


@dataclass(frozen=True)
class Asked:
    """A trial that is under way.

    Args:
        number: its place in the search, from 0.
        values: of its settings.
        trial: Optuna's.
    """

    number: int
    values: Values
    trial: Any


@dataclass(frozen=True)
class Result:
    """What a trial came to.

    Args:
        state: complete; pruned: it was ended early because others are better; or diverged.
        value: of the metric, over folds the mean; None if it diverged.
        metrics: by name, a value for each fold that was trained.
        epochs: behind it, in the fold with the most.
        reason: how it ended.
    """

    state: Literal["complete", "pruned", "diverged"]
    value: float | None
    metrics: Mapping[str, Sequence[float | None]]
    epochs: int
    reason: str


@dataclass(frozen=True)
class Finished:
    """A trial that has ended.

    Args:
        number: its place in the search, from 0.
        values: of its settings.
        result: what it came to.
        worker: the process that trained it.
        own: whether that was one of this run directory.
    """

    number: int
    values: Values
    result: Result
    worker: str
    own: bool


class Study:
    """A study of Optuna's whose trials are planned beforehand.

    A trial that is planned is in the storage as one that waits, with the values that are fixed. Each process takes
    those that wait. One that is given back, because its process was interrupted or killed, is planned again; a trial's
    number is its place in the plan, whichever attempt succeeds.

    Args:
        study: Optuna's.
        space: what is searched.
        workers: the processes of this run directory.
        is_alone: whether no others work on the study.
    """

    def __init__(self, study: optuna.Study, space: Space, workers: Workers, is_alone: bool) -> None:
        self._study = study
        self._space = space
        self._workers = workers
        self._is_alone = is_alone

    @property
    def worker(self) -> str:
        """The name of this process."""
        return self._workers.own

    def plan(self, fixed: Sequence[Values]) -> None:
        """Plan trials with these values, as far as they are not planned yet.

        Args:
            fixed: the values of each that are not left to the sampler.
        """
        planned = {trial.user_attrs[_NUMBER] for trial in self._trials() if _NUMBER in trial.user_attrs}
        with quiet():
            for number, values in enumerate(fixed):
                if number not in planned:
                    self._study.enqueue_trial(self._space.stored(values), user_attrs={_NUMBER: number})

    def ask(self, count: int) -> list[Asked]:
        """Take up to so many trials that wait; none if there are none."""
        found: list[Asked] = []
        with quiet(), self._workers.taking():
            self._reclaim()
            while len(found) < count and self.waiting():
                trial = self._study.ask()
                trial.set_user_attr(_WORKER, self._workers.own)
                if self._is_taken(trial):
                    self._study.tell(trial, state=_states().FAIL)
                    continue
                number = trial.user_attrs[_NUMBER]
                found.append(Asked(number, self._space.ask(trial), trial))
        return found

    def report(self, asked: Asked, value: float, step: int) -> None:
        """Take up a trial's value after so many epochs, or of the fold of this number."""
        with quiet():
            asked.trial.report(value, step)

    def prunes(self, asked: Asked) -> bool:
        """Whether a trial is to be ended, by what it and the others have reported."""
        with quiet():
            return bool(asked.trial.should_prune())

    def tell(self, asked: Asked, result: Result) -> None:
        """Take up what a trial came to."""
        with quiet():
            asked.trial.set_user_attr(_RESULT, asdict(result))
            self._end(asked.trial.number, result)

    def give_back(self, asked: Asked) -> None:
        """Plan a trial again that could not be finished."""
        self._give_back(asked.trial.number, asked.number, self._space.stored(asked.values))

    def waiting(self) -> int:
        """How many trials wait to be taken."""
        return len(self._study.get_trials(deepcopy=False, states=(_states().WAITING,)))

    def running(self) -> int:
        """How many trials are under way, in whatever process."""
        running = self._study.get_trials(deepcopy=False, states=(_states().RUNNING,))
        return len([trial for trial in running if _NUMBER in trial.user_attrs])

    def finished(self) -> list[Finished]:
        """The trials that have ended, by number."""
        found: dict[int, Finished] = {}
        for trial in self._trials():
            if _RESULT in trial.user_attrs and trial.state.is_finished():
                number, worker = trial.user_attrs[_NUMBER], trial.user_attrs[_WORKER]
                values = {name: self._value(name, value) for name, value in trial.params.items()}
                result, own = Result(**trial.user_attrs[_RESULT]), self._workers.knows(worker)
                found.setdefault(number, Finished(number, values, result, worker, own))
        return [found[number] for number in sorted(found)]

    def importances(self) -> dict[str, float]:
        """How much of the metric's variation among the better trials each setting explains, adding up to 1.

        By Optuna's default evaluator (PED-ANOVA), which also takes settings that only some trials have; empty where
        there are too few trials.

        Reference: Watanabe, Bansal and Hutter (2023), doi:10.24963/ijcai.2023/488.
        """
        import optuna

        with quiet():
            try:
                return dict(optuna.importance.get_param_importances(self._study))
            except (ValueError, RuntimeError, ZeroDivisionError):
                return {}

    @property
    def repeats(self) -> Mapping[str, Any] | None:
        """What came of repeating the best trial, if that was done."""
        with quiet():
            found: Mapping[str, Any] | None = self._study.user_attrs.get(_REPEATS)
        return found

    @repeats.setter
    def repeats(self, found: Mapping[str, Any]) -> None:
        with quiet():
            self._study.set_user_attr(_REPEATS, dict(found))

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _value(self, name: str, stored: Any) -> Any:
        values = next(dimension.values for dimension in self._space.dimensions if dimension.name == name)
        return values.restored(stored)

    def _is_taken(self, trial: Any) -> bool:
        """Whether another attempt at the same trial came before; plans of two processes may overlap."""
        if _NUMBER not in trial.user_attrs:
            return True
        number, failed = trial.user_attrs[_NUMBER], _states().FAIL
        return any(
            other.number < trial.number and other.state != failed and other.user_attrs.get(_NUMBER) == number
            for other in self._trials()
        )

    def _reclaim(self) -> None:
        """Plan again what processes of this run directory had taken that were killed."""
        for trial in self._study.get_trials(deepcopy=False, states=(_states().RUNNING,)):
            if not self._is_lost(trial):
                continue
            if _RESULT in trial.user_attrs:  # it had ended
                self._end(trial.number, Result(**trial.user_attrs[_RESULT]))
            else:
                self._give_back(trial.number, trial.user_attrs.get(_NUMBER), dict(trial.params))

    def _is_lost(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the process that has taken a trial has ended; of those of other run directories nothing is known."""
        worker = trial.user_attrs.get(_WORKER)
        if worker is not None:
            return self._workers.has_ended(worker)
        start = trial.datetime_start  # killed while it took the trial, if it is not just taking it elsewhere
        return self._is_alone or start is None or datetime.now() - start > _TAKING

    def _end(self, trial: int, result: Result) -> None:
        """End an attempt that has a result."""
        if result.state == "complete":
            self._study.tell(trial, result.value)
        else:  # what has diverged counts as worse than all
            self._study.tell(trial, state=_states().PRUNED)

    def _give_back(self, trial: int, number: int | None, params: Mapping[str, Any]) -> None:
        """End an attempt, and plan another one."""
        with quiet():
            self._study.tell(trial, state=_states().FAIL)
            if number is not None:
                self._study.enqueue_trial(dict(params), user_attrs={_NUMBER: number})


def join(
    storage: Any, name: str, identity: Mapping[str, Any], *, direction: Direction, sampler: Any, pruner: Any
) -> optuna.Study:
    """Create the study, or go on with the one of this name.

    Args:
        storage: Optuna's.
        name: of the study within it.
        identity: settings that all processes must agree in.
        direction: of the metric.
        sampler: Optuna's.
        pruner: Optuna's.

    Raises:
        CheckpointError: if the study of this name is one of other settings.
    """
    import optuna

    with quiet():
        try:
            study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
        except KeyError:
            study = optuna.create_study(
                storage=storage,
                study_name=name,
                sampler=sampler,
                pruner=pruner,
                direction="minimize" if direction == "min" else "maximize",
                load_if_exists=True,
            )
        if not study.user_attrs.get(_IDENTITY):
            study.set_user_attr(_IDENTITY, dict(identity))
        _refuse_other(study.user_attrs[_IDENTITY], identity, name)
    return study


def _states() -> Any:
    from optuna.trial import TrialState

    return TrialState


def _refuse_other(stored: Mapping[str, Any], given: Mapping[str, Any], name: str) -> None:
    """Refuse to go on with a study of other settings.

    Raises:
        CheckpointError: naming the first setting that differs.
    """
    for key in dict.fromkeys([*given, *stored]):
        old, new = stored.get(key), given.get(key)
        if old != new:
            raise CheckpointError(
                f"the study {name} is one of another search: {key} was {_shown(old)}, not {_shown(new)}; go on with "
                "the same settings, or give another --study"
            )


def _shown(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
