"""What a plugin hands over, and how a component is asked for by name.

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
        """The hook through which a plugin offers components of this family."""
        return f"torchplug_{self.plural}"

    @property
    def supplied(self) -> tuple[str, ...]:
        """Arguments of a target that the core passes; users never set them.

        The leading ones are positional. A scheduler gets `total_steps` and `steps_per_epoch`
        (counted in optimizer steps) by keyword, and only where its signature names them.
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
