"""What a plugin hands over, and how a component is asked for by name.

Nothing here imports torch: listing components must not cost an import of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["regression", "binary", "multiclass", "count", "margin"]
"""What a loss is for; `torchplug.task` has all that follows from it."""

View = Literal["values", "standardized", "labels", "scores", "probabilities", "distributions"]
"""What a metric is computed from, see `Metric`."""

Direction = Literal["min", "max"]
"""Which value of a metric is the best: the lowest or the highest."""


class Family(enum.Enum):
    """The kinds of component. Each has a hook, `torchplug_<plural>`."""

    MODEL = "model"
    LOSS = "loss"
    OPTIMIZER = "optimizer"
    REGULARIZER = "regularizer"
    SCHEDULER = "scheduler"
    METRIC = "metric"

    @property
    def plural(self) -> str:
        """The family's name in the plural, as hooks and headings use it."""
        return "losses" if self is Family.LOSS else f"{self.value}s"

    @property
    def hook(self) -> str:
        """The hook through which a plugin offers components of this family."""
        return f"torchplug_{self.plural}"

    @property
    def supplied(self) -> tuple[str, ...]:
        """Arguments of a target that the core passes; users never set them.

        Those of `supplied_by_keyword` among them are passed where the target's signature names them; the others
        come first in it, and are positional.
        """
        return (*_SUPPLIED.get(self, ()), *self.supplied_by_keyword)

    @property
    def supplied_by_keyword(self) -> tuple[str, ...]:
        """Arguments that the core passes where the target's signature names them.

        Of a scheduler: the optimizer steps of the fit and of an epoch. Of a metric: the number of classes (2 for two),
        of target columns, and a class index of rows that do not count.
        """
        return _SUPPLIED_BY_KEYWORD.get(self, ())


_SUPPLIED = {
    Family.MODEL: ("inputs", "outputs"),
    Family.OPTIMIZER: ("params",),
    Family.SCHEDULER: ("optimizer",),
}
_SUPPLIED_BY_KEYWORD = {
    Family.SCHEDULER: ("total_steps", "steps_per_epoch"),
    Family.METRIC: ("num_classes", "num_outputs", "ignore_index"),
}


class Capability(enum.Enum):
    """What an optimizer wants or honours beyond gradients."""

    NAMES = "names"
    """Its parameters arrive as (name, parameter) pairs."""
    PROX = "prox"
    """Its step applies `optimizer.prox`, so it can train with proximal regularizers."""
    ELEMENTWISE = "elementwise"
    """Its step treats every element of its parameters alone: it may see several parameters as one flat tensor."""
    OBJECTIVE = "objective"
    """Its step sees the whole training set: it is called as `step(closure, objective=objective)`, once an
    epoch, and ends the training by its `outcome`."""
    RESIDUALS = "residuals"
    """The loss must be a sum of squares: it has `residuals`."""
    LINEAR_RESIDUALS = "linear_residuals"
    """The residuals must also be linear in the parameters."""
    PIECEWISE_LINEAR = "piecewise_linear"
    """The loss must be piecewise linear: it has `pieces`. The scores must be linear in the parameters."""


@dataclass(frozen=True)
class Outcome:
    """How an optimizer that ends its own training ended it.

    Args:
        name: `converged`: a tolerance is met; `stalled`: no further step could be made, the last good parameters are
            in place; `limit`: the allowed number of iterations is done.
        reason: what was found, in a sentence with numbers.
        remedy: what to do about it; empty where nothing needs doing.
    """

    name: Literal["converged", "stalled", "limit"]
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Iteration:
    """One accepted step of an optimizer that sees the whole training set.

    Args:
        number: counted from 1.
        loss: F after the step, in units of the training objective.
        gradient_norm: ‖∇F‖ after the step.
        step: α, the multiple of the direction that was taken; None for methods without a step size.
        damping: μ of the step; None for methods without damping.
        evaluations: the points at which F has been evaluated since training began.
    """

    number: int
    loss: float
    gradient_norm: float
    step: float | None
    damping: float | None
    evaluations: int


@dataclass(frozen=True)
class Component:
    """One named thing that a plugin offers.

    Args:
        name: how recipes ask for it: lower-case letters, digits and underscores.
        target: where it is, `package.module:Class`; imported when first used.
        summary: one line for the table of components.
        needs: what it wants from the core beyond the family's contract.
    """

    name: str
    target: str
    summary: str
    capabilities: frozenset[Capability] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Metric(Component):
    """One metric: how an evaluated part of the data is judged.

    Its target gives a `torchmetrics.Metric`, whose `compute` returns a number; of several numbers, as for several
    target columns, the mean counts. Where the target's signature names them, `num_classes`, `num_outputs` and
    `ignore_index` are supplied, so that most classes of torchmetrics can be targets as they are.

    Args:
        kinds: the kinds of loss that it goes with.
        view: what `update(predictions, target)` receives, of n rows:
            `values`: predicted and true numbers in the target's units, (n, k), or (n,) of a single column;
            `standardized`: the same in units of the training target's deviation from its mean;
            `labels`: predicted and true class indices (n,);
            `scores`: numbers in [0, 1] that rise with a class's score, (n,) of the second of two classes or (n, k) of
            several, and true class indices (n,);
            `probabilities`: the same where the loss predicts probabilities;
            `distributions`: predicted and true probabilities, both (n,) or (n, k): targets may be probabilities too.
        direction: whether the lowest (`min`) or the highest (`max`) value is the best.
        needs_variation: whether it is undefined, NaN, where all targets are equal.
    """

    kinds: frozenset[Kind] = field(kw_only=True)
    view: View = field(kw_only=True)
    direction: Direction = field(kw_only=True)
    needs_variation: bool = field(default=False, kw_only=True)

    @property
    def needs_labels(self) -> bool:
        """Whether it is undefined where targets are probabilities rather than classes."""
        return self.view in ("labels", "scores", "probabilities")


@dataclass(frozen=True)
class Spec:
    """A component's name together with the parameters chosen for it, as plain types."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return this spec as nested dicts, for checkpoints and configuration files."""
        return {"name": self.name, "parameters": {k: _plain(v) for k, v in self.parameters.items()}}

    @classmethod
    def of(cls, value: Spec | str | Mapping[str, Any]) -> Spec:
        """Read a spec from a name, from `plain()`'s form, or pass one through."""
        if isinstance(value, Spec):
            return value
        if isinstance(value, str):
            return cls(value)
        return cls(value["name"], dict(value.get("parameters") or {}))


def use(name: str, /, **parameters: Any) -> Spec:
    """Ask for a component by name: `use("adam", lr=1e-2)`."""
    return Spec(name, parameters)


def _plain(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


Factory = Callable[..., Any]
"""The annotation of a parameter that is itself a component of the same family (`warmup` wraps
another scheduler). Users give a name or a spec; the target receives a function of the supplied
arguments that builds it."""


@dataclass(frozen=True)
class TargetInfo:
    """What is known of the target before a network is built.

    Args:
        columns: the target columns' names, k of them.
        classes: the labels in the order of their indices, or None where the target is a number.
            With several columns of class probabilities, the columns are the classes.
    """

    columns: tuple[str, ...]
    classes: tuple[str | int | float | bool, ...] | None = None
