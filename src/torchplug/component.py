"""Records of components and of the names and parameters that select them.

Nothing here imports torch: listing components must not cost an import of it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


class Family(enum.Enum):
    """The kinds of component. Each has a hook, `torchplug_<plural>`."""

    MODEL = "model"
    LOSS = "loss"
    OPTIMIZER = "optimizer"
    REGULARIZER = "regularizer"
    SCHEDULER = "scheduler"

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

        The leading ones are positional. A scheduler gets `total_steps` and `steps_per_epoch`
        (counted in optimizer steps) by keyword, if its signature names them.
        """
        return _SUPPLIED[self]


_SUPPLIED = {
    Family.MODEL: ("inputs", "outputs"),
    Family.LOSS: (),
    Family.OPTIMIZER: ("params",),
    Family.REGULARIZER: (),
    Family.SCHEDULER: ("optimizer", "total_steps", "steps_per_epoch"),
}


class Capability(enum.Enum):
    """What an optimizer supports or needs beyond gradients."""

    NAMES = "names"
    """Its parameters are passed as (name, parameter) pairs."""
    PROX = "prox"
    """Its step applies `optimizer.prox`, which proximal regularizers need."""
    ELEMENTWISE = "elementwise"
    """Its step is elementwise, so that several parameters may be passed as one flat tensor."""
    OBJECTIVE = "objective"
    """It is full-batch: `step(closure, objective=objective)` is called once per epoch, and its `outcome` ends the
    training."""
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
    """

    name: str
    target: str
    summary: str
    capabilities: frozenset[Capability] = field(default_factory=frozenset)


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
