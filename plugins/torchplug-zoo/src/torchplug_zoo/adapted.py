"""Targets for classes whose own signature does not serve, made when they are asked for.

An adaptation takes `params` first and supplies what the class calls otherwise; the other parameters are its own.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Adaptation:
    """How a class is called.

    Args:
        target: the class, `package.module:Class`.
        supplied: its parameters that the core supplies under another name.
        over_model: whether it takes the network instead of its parameters.
        only_matrices: whether it refuses other parameters, but in its first step.
    """

    target: str
    supplied: Mapping[str, str] = field(default_factory=dict)
    over_model: bool = False
    only_matrices: bool = False


_IN_BACKWARD = "it updates parameters during the backward pass, so that no gradient can be checked, clipped or reduced"
_LAMBDA = "a function is no setting"
_REFUSED = {
    "po_lomo": _IN_BACKWARD,
    "po_adalomo": _IN_BACKWARD,
    "po_magma": "it wraps another optimizer, and settings name one",
    "po_proportion": "it follows another scheduler, for an optimizer that is not offered",
    "torch_chained_scheduler": "it combines other schedulers",
    "torch_lambda_lr": _LAMBDA,
    "torch_multiplicative_lr": _LAMBDA,
    "torch_sequential_lr": "it combines other schedulers; the scheduler warmup leads into any other",
}
"""Optimizers and schedulers that no name can stand for, and why."""
_COMBINING = ("torch_chained_scheduler", "torch_sequential_lr")
_SCHEDULERS = (*_COMBINING, "torch_lambda_lr", "torch_multiplicative_lr", "po_proportion")
_ADAPTED = {
    "po_adammini": Adaptation("pytorch_optimizer:AdamMini", over_model=True),
    "po_ranger21": Adaptation("pytorch_optimizer:Ranger21", {"num_iterations": "total_steps"}),
    "po_scion": Adaptation("pytorch_optimizer:SCION"),
    "po_scionlight": Adaptation("pytorch_optimizer:SCIONLight"),
    "po_spectralsphere": Adaptation("pytorch_optimizer:SpectralSphere", only_matrices=True),
}


def __getattr__(name: str) -> Any:
    if name in _REFUSED:
        return (_refused_scheduler if name in _SCHEDULERS else _refused_optimizer)(_REFUSED[name])
    if name in _ADAPTED:
        return _adapted(_ADAPTED[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _refused_optimizer(reason: str) -> Callable[..., Any]:
    def refuse(params: Any) -> Any:
        raise ValueError(f"it cannot be used by name: {reason}")

    return refuse


def _refused_scheduler(reason: str) -> Callable[..., Any]:
    def refuse(optimizer: Any) -> Any:
        raise ValueError(f"it cannot be used by name: {reason}")

    return refuse


def _adapted(adaptation: Adaptation) -> Callable[..., Any]:
    module, _, attribute = adaptation.target.partition(":")
    kind = getattr(import_module(module), attribute)
    signature, first = _signature(kind, adaptation)
    defaults = {name: known.default for name, known in signature.parameters.items() if name in _enumerated(kind)}

    def build(params: Any, **settings: Any) -> Any:
        if adaptation.only_matrices:
            _refuse_vectors(params)
        supplied = {its: settings.pop(ours) for its, ours in adaptation.supplied.items()}
        return kind(settings.pop("model") if first == "model" else params, **{**defaults, **supplied, **settings})

    build.__doc__ = kind.__doc__
    build.__signature__ = signature  # type: ignore[attr-defined]
    build.__wrapped__ = kind.__init__  # type: ignore[attr-defined]  # whose annotations these are
    return build


def _signature(kind: type, adaptation: Adaptation) -> tuple[inspect.Signature, str]:
    """The adapted signature, and the name of the class's own first parameter."""
    first, *own = inspect.signature(kind).parameters.values()
    supplied = [adaptation.supplied.get(parameter.name) for parameter in own]
    kept = [
        parameter.replace(default=int(parameter.default)) if parameter.name in _enumerated(kind) else parameter
        for parameter, name in zip(own, supplied, strict=True)
        if name is None
    ]
    ours = [name for name in (*supplied, "model" if adaptation.over_model else None) if name is not None]
    asked = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in ours]
    by_keyword = [p for p in kept if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    params = inspect.Parameter("params", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([params, *by_keyword, *asked]), first.name


def _enumerated(kind: type) -> set[str]:
    """Parameters whose default is a member of an enumeration of numbers, which no checkpoint could hold."""
    return {
        name for name, known in inspect.signature(kind).parameters.items() if isinstance(known.default, enum.IntEnum)
    }


def _refuse_vectors(groups: Any) -> None:
    shapes = [tuple(p.shape) for group in groups for p in group["params"] if p.ndim != 2]
    if shapes:
        raise ValueError(
            f"it moves matrices only, and there is a parameter of shape {shapes[0]}: use a model without biases, or "
            "an optimizer that moves these too, such as po_muon"
        )
