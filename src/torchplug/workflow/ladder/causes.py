"""Why a rung has failed: by what is seen in the network, then by training again with one thing changed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from torchplug.batch import Rows
from torchplug.workflow.finding import Finding
from torchplug.workflow.ladder.codes import cause
from torchplug.workflow.ladder.probes import structural_cause
from torchplug.workflow.ladder.problem import Problem
from torchplug.workflow.ladder.trial import R2, Setting, Trial, train

_DOWN = (0.1, 0.01, 0.001)
_UP = (10.0, 100.0, 1000.0)
_SCALE = 5.0


@dataclass(frozen=True)
class Conflicts:
    """Rows with equal features and different targets.

    Args:
        rows: how many there are.
        best: the accuracy, or R², that no function of the features can exceed on these rows.
    """

    rows: int
    best: float


def conflicts(problem: Problem, rows: Rows) -> Conflicts:
    """Look for rows that contradict each other."""
    _, group = torch.unique(rows.features, dim=0, return_inverse=True)
    count = torch.bincount(group).double()
    if problem.has_classes:
        target = rows.target if rows.target.ndim == 1 else rows.target.round().to(torch.int64) @ _digits(rows.target)
        _, label = torch.unique(target, return_inverse=True)
        table = torch.zeros(len(count), int(label.max()) + 1, dtype=torch.float64)
        table.index_put_((group, label), torch.ones(len(label), dtype=torch.float64), accumulate=True)
        most = table.max(dim=1).values
        return Conflicts(int(count[most < count].sum()), float(most.sum() / count.sum()))
    target = rows.target.double()
    mean = torch.zeros(len(count), target.shape[1], dtype=torch.float64).index_add_(0, group, target) / count[:, None]
    within = (target - mean[group]) ** 2
    spread = problem.spread().sum()
    contradicting = torch.zeros_like(count).index_add_(0, group, (within.sum(dim=1) > 1e-12 * spread).double()) > 0
    best = float(1 - within.mean(dim=0).sum() / spread) if spread > 0 else 1.0
    return Conflicts(int(count[contradicting].sum()), best)


def _digits(target: Tensor) -> Tensor:
    return 2 ** torch.arange(target.shape[1])


def why(problem: Problem, trial: Trial, without_signal: Finding | None = None) -> Finding:
    """The likely cause for which a trial has not reached its threshold.

    Args:
        problem: configuration and data.
        trial: it.
        without_signal: what to say where the validation split shows that nothing was learnt; None where it does not.
    """
    if not trial.finite and not math.isfinite(trial.losses[0]):
        return cause("TPL001", f"the loss of the first batch is {trial.losses[0]}")
    contradicting = conflicts(problem, trial.rows)
    if contradicting.rows and trial.score > contradicting.best - 0.02:
        return cause(
            "TPL011",
            f"{contradicting.rows} of {len(trial.rows.weight)} rows have the features of another row and another "
            f"target: no model exceeds {contradicting.best:.4g}",
        )
    found = structural_cause(problem, trial) if trial.finite else None
    return found or without_signal or _by_experiment(problem, trial)


def _by_experiment(problem: Problem, trial: Trial) -> Finding:
    scale = _scale(problem.train.features)
    if scale is not None:
        scaled = replace(problem, train=_standardized(problem.train))
        rows = _standardized(trial.rows, of=problem.train)
        if train(scaled, rows, Setting()).reached:
            return cause("TPL012", f"{scale}; with standardized features the rung passes")
    rate = _by_rate(problem, trial)
    if rate is not None:
        return rate
    if _rises(trial):
        return cause("TPL013", f"the loss {_shape(trial)}")
    if trial.finite and trial.score < (1.0 if problem.has_classes else R2):
        n = len(trial.rows.weight)
        return cause(
            "TPL015",
            f"{problem.parameters} parameters do not fit {n} rows exactly, at any learning rate from "
            f"{_DOWN[-1]:g} to {_UP[-1]:g} times the configuration's",
        )
    return cause("TPL020", f"the loss {_shape(trial)}")


def _by_rate(problem: Problem, trial: Trial) -> Finding | None:
    """What another learning rate shows: that the rung passes with it, or that it halves the loss at least."""
    if "lr" not in problem.module.resolved.trial_optimizer().defaults:
        return None
    tried: list[tuple[float, float]] = []
    for factor in _factors(trial):
        other = train(problem, trial.rows, Setting(rate=factor))
        code = "TPL013" if factor < 1 else "TPL014"
        if other.reached:
            return cause(code, f"the loss {_shape(trial)}; with {factor:g} × the learning rate the rung passes")
        if other.finite:
            tried.append((other.loss, factor))
    loss, factor = min(tried, default=(math.inf, 1.0))
    if loss == math.inf or (trial.finite and loss > 0.5 * trial.loss):
        return None
    code = "TPL013" if factor < 1 else "TPL014"
    return cause(code, f"the loss {_shape(trial)}; with {factor:g} × the learning rate it is {loss:.3g}")


def _factors(trial: Trial) -> Iterator[float]:
    """Those of the learning rate in the order of what the losses suggest."""
    yield from (*_DOWN, *_UP) if _rises(trial) else (*_UP, *_DOWN)


def _rises(trial: Trial) -> bool:
    """Whether the loss has risen, jumps, or is not finite."""
    losses = trial.losses
    if not trial.finite or not math.isfinite(losses[-1]):
        return True
    late = losses[len(losses) // 2 :]
    return max(losses) > 3 * losses[0] or sum(late) / len(late) > losses[0]


def _shape(trial: Trial) -> str:
    first, last, highest = trial.losses[0], trial.losses[-1], max(trial.losses)
    if not trial.finite:
        return f"was no longer finite after {trial.steps} steps"
    if _rises(trial):
        return f"jumps: {first:.3g} at the start, up to {highest:.3g}, {last:.3g} after {trial.steps} steps"
    return f"went from {first:.3g} to {last:.3g} in {trial.steps} steps"


def _scale(features: Tensor) -> str | None:
    """What to say of features that are far from mean 0 and standard deviation 1; None if they are not."""
    spread, mean = features.double().std(dim=0, correction=0), features.double().mean(dim=0).abs()
    varying = spread > 0
    if not bool(varying.any()):
        return None
    largest, smallest, offset = spread.max(), spread[varying].min(), mean[varying].max()
    if max(float(largest), float(offset)) <= _SCALE and float(smallest) >= 1 / (20 * _SCALE):
        return None
    return f"standard deviations of features reach from {smallest:.3g} to {largest:.3g}, and means up to {offset:.3g}"


def _standardized(rows: Rows, of: Rows | None = None) -> Rows:
    features = (of or rows).features
    mean, spread = features.mean(dim=0), features.std(dim=0, correction=0)
    return rows._replace(features=(rows.features - mean) / torch.where(spread > 0, spread, torch.ones_like(spread)))


def too_strong(problem: Problem, rows: Rows, needed: float) -> Finding:
    """Which of penalties and dropout keeps the model from learning.

    Args:
        problem: configuration and data.
        rows: what is trained on.
        needed: the loss that must be reached.
    """
    penalized = train(problem, rows, Setting(penalties=True, enough=needed))
    dropped = train(problem, rows, Setting(dropout=True, enough=needed))
    if dropped.loss > penalized.loss:
        return cause("TPL019", f"with dropout alone the training loss stays at {dropped.loss:.4g}, above {needed:.4g}")
    return cause("TPL018", f"with penalties alone the training loss stays at {penalized.loss:.4g}, above {needed:.4g}")
