"""From figures to verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torchplug.workflow.diagnosis import codes
from torchplug.workflow.diagnosis.measures import Difference, Measures
from torchplug.workflow.finding import Finding

_GAP = 0.01
"""The optimizer gap above which training counts as not converged, as a share of what there is to learn."""
_EXPLAINED = 0.1
"""The share of the constant's training loss below which nothing much is explained."""
_RISE = 0.1
"""The generalization gap above which a model overfits, as a share of the constant's loss."""
_BETTER = 0.05
"""A linear model that is better by this share of the constant's loss shows underfitting."""


@dataclass(frozen=True)
class Evaluated:
    """A model on both splits.

    Args:
        train: on the training split.
        validation: on the validation split; None where that has no rows.
    """

    train: Measures
    validation: Measures | None


@dataclass(frozen=True)
class Facts:
    """All that a verdict follows from.

    Args:
        model: what was trained.
        constant: the best constant.
        linear: a linear model with a weak penalty; None where none can be fitted.
        optimum: where a full-batch optimizer has come from the model; None without one.
        gap: F of the model less F of the optimum, per row.
        estimation: the noise floor less the training loss at the optimum: how far from the best parameters the optimum
            is itself; 0 where that is not known.
        is_minimum: whether the optimum is one.
        error_name: what the error is, such as rmse.
        target: the error that is wanted; None: none was named.
        curves: what the losses by epoch show.
        is_linear: whether the model is linear in its parameters.
        is_full_batch: whether the optimizer is a full-batch one.
        penalized: whether there are penalties.
        dropout: whether there is dropout.
    """

    model: Evaluated
    constant: Evaluated
    linear: Evaluated | None
    optimum: Evaluated | None
    gap: float | None
    estimation: float
    is_minimum: bool
    error_name: str
    target: float | None
    curves: Finding | None
    is_linear: bool
    is_full_batch: bool
    penalized: bool
    dropout: bool

    @property
    def scale(self) -> float:
        """The constant's training loss, in whose shares losses are judged."""
        return abs(self.constant.train.loss) or 1.0

    def gap_of(self, evaluated: Evaluated) -> Difference | None:
        """The validation loss less the training loss."""
        return None if evaluated.validation is None else evaluated.validation.rises_from(evaluated.train)


def judge(facts: Facts) -> list[Finding]:
    """What is wrong, the most important first; nothing for a good fit."""
    checks: list[Callable[[Facts], Finding | None]] = [
        _not_converged,
        _underfitting,
        _too_little_data,
        _overfitting,
        _few_validation_rows,
    ]
    found = [finding for check in checks if (finding := check(facts)) is not None]
    if any(finding.code == codes.TOO_LITTLE_DATA[0] for finding in found):
        found = [finding for finding in found if finding.code != codes.OVERFITTING[0]]
    return found


def _not_converged(facts: Facts) -> Finding | None:
    remedies = tuple(codes.train_longer(facts.is_full_batch))
    optimum = facts.optimum
    if optimum is not None and facts.gap is not None and facts.is_minimum:
        room = max(facts.constant.train.loss - optimum.train.loss, _GAP * facts.scale)
        if facts.gap <= max(_GAP * room, facts.estimation):
            return None
        evidence = (
            f"the objective is {facts.gap:.3g} above its minimum, {facts.gap / room:.1%} of what there is to learn"
        )
        return Finding(*codes.NOT_CONVERGED, evidence, remedies)
    if optimum is not None and facts.model.validation is not None and optimum.validation is not None:
        gain = facts.model.validation.exceeds(optimum.validation)
        trained = facts.model.train.loss - optimum.train.loss
        if gain.is_above(_GAP * facts.scale) and trained > _GAP * facts.scale:
            evidence = f"a few full-batch steps lower the training loss by {trained:.3g}, the validation loss by {gain}"
            return Finding(*codes.NOT_CONVERGED, evidence, remedies)
    curves = facts.curves
    return curves if curves is not None and curves.code == codes.NOT_CONVERGED[0] else None


def _underfitting(facts: Facts) -> Finding | None:
    train, remedies = facts.model.train, tuple(codes.fit_better(facts.is_linear, facts.penalized, facts.dropout))
    if facts.target is not None:
        if train.error <= facts.target:
            return None
        evidence = f"the training error ({facts.error_name}) is {train.error:.4g}, above the target {facts.target:g}"
        if facts.is_linear and facts.is_minimum and facts.optimum is not None:
            evidence += f"; at the optimum of this model it is {facts.optimum.train.error:.4g}"
        return Finding(*codes.UNDERFITTING, evidence, remedies)
    explained = (facts.constant.train.loss - train.loss) / facts.scale
    if explained < _EXPLAINED:
        evidence = (
            f"the training loss is {train.loss:.4g}, and that of the best constant {facts.constant.train.loss:.4g}"
        )
        return Finding(*codes.UNDERFITTING, evidence, remedies)
    if facts.linear is not None and train.loss - facts.linear.train.loss > _BETTER * facts.scale:
        evidence = f"the training loss is {train.loss:.4g}, and that of a linear model {facts.linear.train.loss:.4g}"
        return Finding(*codes.UNDERFITTING, evidence, remedies)
    return None


def _overfits(facts: Facts, evaluated: Evaluated | None) -> Difference | None:
    """The generalization gap, if it is large and no accident."""
    gap = None if evaluated is None else facts.gap_of(evaluated)
    return gap if gap is not None and gap.is_above(_RISE * facts.scale) else None


def _too_little_data(facts: Facts) -> Finding | None:
    gap, simple = facts.gap_of(facts.model), _overfits(facts, facts.linear)
    if gap is None or simple is None or not _is_too_high(facts):
        return None
    rows = len(facts.model.train.losses)
    evidence = (
        f"even a linear model has a validation loss that is {simple} above its training loss, from {rows} training rows"
    )
    return Finding(*codes.TOO_LITTLE_DATA, evidence, tuple(codes.more_rows(facts.is_linear, facts.penalized)))


def _overfitting(facts: Facts) -> Finding | None:
    remedies = tuple(codes.generalize(facts.is_linear, facts.penalized))
    gap, validation = facts.gap_of(facts.model), facts.model.validation
    if gap is not None and validation is not None and _is_too_high(facts):
        evidence = f"the validation loss is {gap} above the training loss of {facts.model.train.loss:.4g}"
        if facts.target is not None:
            evidence = (
                f"the validation error ({facts.error_name}) is {validation.error:.4g}, above the target "
                f"{facts.target:g}, and the training error {facts.model.train.error:.4g}"
            )
        return Finding(*codes.OVERFITTING, evidence, remedies)
    curves = facts.curves
    if facts.target is None and curves is not None and curves.code == codes.OVERFITTING[0]:
        return Finding(*codes.OVERFITTING, curves.evidence, remedies)
    return None


def _is_too_high(facts: Facts) -> bool:
    """Whether the validation error is, by the target or, without one, by the generalization gap."""
    validation = facts.model.validation
    if facts.target is not None and validation is not None:
        return validation.error > facts.target >= facts.model.train.error
    return _overfits(facts, facts.model) is not None


def _few_validation_rows(facts: Facts) -> Finding | None:
    gap, validation = facts.gap_of(facts.model), facts.model.validation
    bound = _RISE * facts.scale
    if gap is None or validation is None or gap.value <= bound or gap.is_above(bound):
        return None
    evidence = (
        f"the validation loss is {gap} above the training loss: {len(validation.losses)} validation rows are too few "
        "to tell overfitting from chance"
    )
    return Finding(*codes.FEW_VALIDATION_ROWS, evidence, tuple(codes.more_validation()))
