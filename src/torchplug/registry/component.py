"""Records of components and of the names and parameters that select them.

Nothing here imports torch: listing components must not cost an import of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["regression", "binary", "multiclass", "count", "margin"]
"""What a loss is for; `torchplug.components.task` has all that follows from it."""

View = Literal["values", "standardized", "labels", "scores", "probabilities", "distributions"]
"""What a metric is computed from, see `Metric`."""

Direction = Literal["min", "max"]
"""Which value of a metric is the best: the lowest or the highest."""


Unit = Literal["location", "scale", "none"]
"""How a prediction returns from the standardized target's units: scaled and shifted, scaled, or unchanged."""


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
        """The hook through which a plugin registers components of this family."""
        return f"torchplug_{self.plural}"

    @property
    def supplied(self) -> tuple[str, ...]:
        """Arguments of a target that the core supplies; users never set them.

        Those of `supplied_by_keyword` among them are passed if the target's signature names them; the others
        are positional and come first.
        """
        return (*_SUPPLIED.get(self, ()), *self.supplied_by_keyword)

    @property
    def supplied_by_keyword(self) -> tuple[str, ...]:
        """Arguments that the core passes where the target's signature names them.

        Of a model: the features of each column of categories, as (first, stop) pairs. Of an optimizer: the optimizer
        steps of the fit, the number of training rows, and the network. Of a scheduler: the optimizer steps of the fit
        and of an epoch. Of a metric: the number of classes (2 for two), of target
        columns, and a class index of rows that do not count.
        """
        return _SUPPLIED_BY_KEYWORD.get(self, ())


_SUPPLIED = {
    Family.MODEL: ("inputs", "outputs"),
    Family.OPTIMIZER: ("params",),
    Family.SCHEDULER: ("optimizer",),
}
_SUPPLIED_BY_KEYWORD = {
    Family.MODEL: ("categories",),
    Family.OPTIMIZER: ("total_steps", "num_data", "model"),
    Family.SCHEDULER: ("total_steps", "steps_per_epoch"),
    Family.METRIC: ("num_classes", "num_outputs", "ignore_index"),
}


class Capability(enum.Enum):
    """What an optimizer supports or needs beyond gradients."""

    NAMES = "names"
    """Its parameters are passed as (name, parameter) pairs."""
    PROX = "prox"
    """Its step applies `optimizer.prox`, which proximal regularizers need."""
    ELEMENTWISE = "elementwise"
    """Its step is elementwise, so that several parameters may be passed as one flat tensor."""
    UPDATE = "update"
    """`update()` is its step once gradients exist; it may have `update_fn`, the update as a function of tensors."""
    GRADIENTS = "gradients"
    """Its step uses gradients alone, so that it needs no closure, and several are made between Lightning's own."""
    CLOSURE = "closure"
    """Its step evaluates the objective itself: it is always given a closure, and steps are made one by one."""
    GRAPH = "graph"
    """Its step differentiates the gradient, which is computed with `create_graph`."""
    OBJECTIVE = "objective"
    """It is full-batch: `step(objective=objective)` is called once per epoch, and its `outcome` ends the training.
    It may have `iteration`, `refuse` and `statistics`."""
    RESIDUALS = "residuals"
    """It needs a loss with `residuals`, a sum of squares."""
    LINEAR_RESIDUALS = "linear_residuals"
    """It also needs residuals that are linear in the parameters."""
    PIECEWISE_LINEAR = "piecewise_linear"
    """It needs a piecewise linear loss, with `pieces`, and scores that are linear in the parameters."""


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Args:
        name: `converged`: a tolerance is met; `stalled`: no further step was possible, and the parameters are the last
            good ones; `limit`: the allowed number of iterations is done.
        reason: the evidence, in a sentence with numbers.
        remedy: what to do about it; empty if nothing is needed.
    """

    name: Literal["converged", "stalled", "limit"]
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Iteration:
    """One accepted step of a full-batch optimizer.

    Args:
        number: counted from 1.
        loss: F after the step, in units of the training objective.
        gradient_norm: ‖∇F‖ after the step.
        step: α, the accepted multiple of the direction; None for methods without a step size.
        damping: μ of the step; None for methods without damping.
        evaluations: number of points at which F has been evaluated since training began.
    """

    number: int
    loss: float
    gradient_norm: float
    step: float | None
    damping: float | None
    evaluations: int


@dataclass(frozen=True)
class Component:
    """One named component of a plugin.

    Args:
        name: its name in recipes: lower-case letters, digits and underscores.
        target: its import path, `package.module:Class`; imported on first use.
        summary: one line for the table of components.
        capabilities: what it supports or needs beyond the family's contract.
        interval: after what a scheduler without an attribute `interval` advances, `epoch` or `step`. By default it
            counts steps if its signature names `total_steps`, else epochs.
        monitor: the logged metric, such as `val/loss`, that a scheduler without an attribute `monitor` is stepped with.
        groups: an optimizer's rule of parameter groups: the import path of a function that takes the trainable
            parameters as (name, parameter) pairs, and returns mappings with such pairs as `params` and with settings.
    """

    name: str
    target: str
    summary: str
    capabilities: frozenset[Capability] = field(default_factory=frozenset)
    groups: str | None = None
    interval: Literal["epoch", "step"] | None = None
    monitor: str | None = None


@dataclass(frozen=True)
class Metric(Component):
    """A metric of an evaluated split.

    Its target returns a `torchmetrics.Metric`, whose `compute` returns a number; several numbers, as for several
    target columns, are averaged. If the target's signature names them, `num_classes`, `num_outputs` and
    `ignore_index` are supplied, so that most classes of torchmetrics can be targets as they are.

    Args:
        kinds: the kinds of loss that it suits.
        view: what `update(predictions, target)` receives, of n rows:
            `values`: predicted and true numbers in the target's units, (n, k), or (n,) of a single column;
            `standardized`: the same in units of the training target's deviation from its mean;
            `labels`: predicted and true class indices (n,);
            `scores`: numbers in [0, 1] that rise with a class's score, (n,) of the second of two classes or (n, k) of
            several, and true class indices (n,);
            `probabilities`: the same where the loss predicts probabilities;
            `distributions`: predicted and true probabilities, both (n,) or (n, k): targets may be probabilities too.
        direction: whether the lowest (`min`) or the highest (`max`) value is the best.
        needs_variation: whether it is undefined, NaN, if all targets are equal.
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
    """A component's name and parameters, as plain types."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """Return this spec as nested dicts, for checkpoints and configuration files."""
        return {"name": self.name, "parameters": {k: _plain(v) for k, v in self.parameters.items()}}

    @classmethod
    def of(cls, value: Spec | str | Mapping[str, Any]) -> Spec:
        """Return the spec of a name, or of `plain()`'s form; a spec is returned unchanged."""
        if isinstance(value, Spec):
            return value
        if isinstance(value, str):
            return cls(value)
        return cls(value["name"], dict(value.get("parameters") or {}))


def use(name: str, /, **parameters: Any) -> Spec:
    """Return the spec of a component with parameters: `use("adam", lr=1e-2)`.

    Args:
        name: the component's name, bare or as `distribution:name`.
        parameters: its parameters; the others keep their defaults.
    """
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
"""Annotation of a parameter that is itself a component of the same family (`warmup` wraps another
scheduler). Users pass a name or a spec; the target receives a function of the supplied arguments
that builds it."""


@dataclass(frozen=True)
class TargetInfo:
    """Columns and classes of the target, before a network is built.

    Args:
        columns: names of the k target columns.
        classes: labels in the order of their indices, or None for a numeric target. With several
            columns of class probabilities, the columns are the classes.
    """

    columns: tuple[str, ...]
    classes: tuple[str | int | float | bool, ...] | None = None
