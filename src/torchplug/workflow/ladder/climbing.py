"""From rung to rung, up to the first that fails."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from torchplug.batch import Rows
from torchplug.checked_network import evaluating
from torchplug.data.tabular import TabularData
from torchplug.errors import ConfigurationError
from torchplug.workflow.diagnosis.baselines import Constant, best_constant
from torchplug.workflow.diagnosis.measures import Difference, difference
from torchplug.workflow.diagnosis.optimum import SOLVERS, has_one_minimum, minimize
from torchplug.workflow.finding import Finding
from torchplug.workflow.ladder.causes import conflicts, too_strong, why
from torchplug.workflow.ladder.codes import cause
from torchplug.workflow.ladder.probes import defect
from torchplug.workflow.ladder.problem import Problem, shuffled, subset
from torchplug.workflow.ladder.result import Rung
from torchplug.workflow.ladder.trial import R2, InMemory, Setting, Trial, train

HANDFUL, MORE = 8, 64
_ROOM = 0.05
"""A model that cannot fit all rows must come as near to its minimum: this share of what there is to learn."""
_CLEAR = 0.02
"""By this share of the constant's loss a validation loss must be lower than it."""


@dataclass
class Climb:
    """The rungs of one problem.

    Args:
        problem: configuration and data.
        data: prepared.
        watch: is told the name of each rung before it is tried.
        notes: takes what is left out, and why.
    """

    problem: Problem
    data: TabularData
    watch: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def rungs(self) -> Iterator[Rung]:
        """Yield the rungs, the last of them the first that fails."""
        whole = None
        for rung, trial in self._plain():
            yield rung
            whole = trial
            if not rung.passed:
                return
        assert whole is not None, "there is a rung of one row"
        for rung in self._regularized(whole):
            yield rung
            if not rung.passed:
                return
        yield from self._validated(whole)

    # ------------------------------------------------------------------ fitting more and more rows

    def _plain(self) -> Iterator[tuple[Rung, Trial]]:
        """Without penalties and dropout."""
        total, order = len(self.problem.train.weight), self.problem.order()
        sizes = {"one row": 1, "a handful": HANDFUL, "more": MORE}
        names = [*(name for name, size in sizes.items() if size < total), "all"]
        for name in names:
            rows = self.problem.train if name == "all" else subset(self.problem.train, order[: sizes[name]])
            self.watch(name)
            trial = train(self.problem, rows, Setting(validates=name == "all"), self._limit(rows))
            yield self._judged(name, trial), trial

    def _limit(self, rows: Rows) -> int:
        """At least 30 epochs."""
        batches = -(-len(rows.weight) // self.problem.batch_size)
        return max(self.problem.steps, 30 * batches)

    def _judged(self, name: str, trial: Trial) -> Rung:
        broken = defect(self.problem.network(), self.problem.train.features)
        if broken is not None:
            return self._rung(name, trial, False, broken.evidence, broken)
        must = f"accuracy 1 and loss below {trial.threshold:.4g}" if self.problem.has_classes else f"R² above {R2}"
        if trial.reached:
            return self._rung(name, trial, True, must)
        floor = self._floor(trial) if trial.finite else None
        if floor is not None:
            note = None if self.problem.has_classes else _contradiction(self.problem, trial)
            return self._rung(name, trial, True, floor, note)
        return self._rung(name, trial, False, f"not reached: {must}", why(self.problem, trial, self._silence(trial)))

    def _silence(self, trial: Trial) -> Finding | None:
        """What to say where the validation loss has never been below that of the best constant."""
        if trial.best is None or not trial.finite:
            return None
        gain, bound = self._gain(trial)
        if gain.is_above(bound):
            return None
        return cause("TPL016", f"the validation loss is at best {gain} below that of the best constant")

    def _floor(self, trial: Trial) -> str | None:
        """What has been reached where not all can be; None if more must be."""
        found = conflicts(self.problem, trial.rows)
        if found.rows and not self.problem.has_classes and trial.score > found.best - (1 - R2):
            return f"noise floor found: equal rows with different targets allow R² {found.best:.4g}"
        numbers = len(trial.rows.weight) * (1 if self.problem.has_classes else trial.rows.target.shape[1])
        if self.problem.parameters >= numbers:
            return None
        constant = float(self._losses(best_constant(self.problem.loss, self.data, self._outputs), trial.rows).mean())
        minimum = self._minimum(trial)
        if minimum is None:
            learns = trial.loss < constant * (1 - _CLEAR) or constant < 1e-12
            return f"fewer parameters than rows: at {trial.loss:.4g}, nothing is gained any more" if learns else None
        room = max(constant - minimum, 1e-6 * abs(constant))
        near = trial.loss - minimum <= _ROOM * room
        return f"noise floor found: the minimum for this model is {minimum:.4g}" if near else None

    def _minimum(self, trial: Trial) -> float | None:
        """The least mean loss of a model with a convex loss on these rows, without penalties; None of others."""
        if not has_one_minimum(self.problem.module, self.data):
            return None
        rows, module = InMemory(trial.rows), self.problem.module
        try:
            found = minimize(module, trial.network, self.data, SOLVERS, regularizers=[], rows=rows).objective
            return found if module.reduction == "mean" else found / rows.samples
        except ConfigurationError as error:
            self.notes.append(f"the minimum is not known: {error}")
            return None

    # ------------------------------------------------------------------ with penalties and dropout

    def _regularized(self, plain: Trial) -> Iterator[Rung]:
        resolved = self.problem.module.resolved
        dropout = any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in plain.network.modules())
        decay = bool(resolved.trial_optimizer().defaults.get("weight_decay"))
        if not (resolved.regularizers or dropout or decay):
            return
        self.watch("regularized")
        rows = self.problem.train
        constant = float(self._losses(best_constant(self.problem.loss, self.data, self._outputs), rows).mean())
        needed = (constant + min(plain.loss, constant)) / 2
        trial = train(self.problem, rows, Setting(penalties=True, dropout=dropout, enough=needed))
        passed = trial.finite and trial.reached
        reason = f"training loss {trial.loss:.4g}, and {needed:.4g} is half of what can be learnt"
        yield self._rung(
            "regularized", trial, passed, reason, None if passed else too_strong(self.problem, rows, needed)
        )

    # ------------------------------------------------------------------ on other rows

    def _validated(self, real: Trial) -> Iterator[Rung]:
        """Real and shuffled targets, judged by the validation split."""
        if self.problem.validation is None:
            self.notes.append("there is no validation split, so that targets cannot be compared with shuffled ones")
            return
        self.watch("shuffled targets")
        rows = shuffled(self.problem.train, self.problem.seed)
        control = train(self.problem, rows, Setting(validates=True), real.steps)
        (gain, bound), (of_control, _) = self._gain(real), self._gain(control)
        said = "the validation loss is {} below that of the best constant"
        found = None
        if not gain.is_above(bound):
            found = cause("TPL016", f"{said.format(gain)}; with shuffled targets it is {of_control}")
        yield self._held_out("validation", real, said.format(gain), found)
        leaks = of_control.is_above(bound) and of_control.value > 4 * of_control.error
        found = cause("TPL017", said.format(of_control)) if leaks else None
        yield self._held_out("shuffled targets", control, said.format(of_control), found)

    # ------------------------------------------------------------------ figures

    @property
    def _outputs(self) -> int:
        assert self.data.preprocessing is not None, "it is prepared"
        return self.problem.loss.outputs(self.data.preprocessing.info)

    def _losses(self, network: Constant, rows: Rows) -> Tensor:
        with evaluating(network):
            scores = network(rows.features).to(rows.weight.dtype)
            losses: Tensor = self.problem.loss(scores, rows.target) * rows.weight
        return losses.double()

    def _gain(self, trial: Trial) -> tuple[Difference, float]:
        """By how much the best validation loss is below the constant's, and by how much it must be."""
        held_out = self.problem.validation
        if trial.best is None or held_out is None:
            return Difference(0.0, 0.0), 0.0
        constant = self._losses(best_constant(self.problem.loss, self.data, self._outputs), held_out)
        return difference(constant - trial.best), _CLEAR * abs(float(constant.mean()))

    def _rung(self, name: str, trial: Trial, passed: bool, reason: str, found: Finding | None = None) -> Rung:
        n = len(trial.rows.weight)
        return Rung(name, n, passed, reason, trial.steps, trial.loss, trial.score, found, tuple(trial.losses))

    def _held_out(self, name: str, trial: Trial, reason: str, found: Finding | None) -> Rung:
        loss = math.nan if trial.best is None else float(trial.best.mean())
        losses = () if name == "validation" else tuple(trial.losses)  # which are those of all rows
        return Rung(name, len(trial.rows.weight), found is None, reason, trial.steps, loss, math.nan, found, losses)


def _contradiction(problem: Problem, trial: Trial) -> Finding | None:
    found = conflicts(problem, trial.rows)
    if not found.rows:
        return None
    return cause("TPL011", f"{found.rows} of {len(trial.rows.weight)} rows have the features of another row")
