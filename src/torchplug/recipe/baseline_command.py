"""The command line that trains the linear model a network was compared with."""

from __future__ import annotations

import json
import shlex
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchplug.evaluation.linear_baseline import LinearBaseline
from torchplug.recipe.output import short_path
from torchplug.registry import registry
from torchplug.registry.component import Family, Spec
from torchplug.settings.groups import signature_of
from torchplug.settings.model import written
from torchplug.terminal import printable

if TYPE_CHECKING:
    from torchplug.recipe.command import Command

_OF_MINIBATCHES = ("batch_size", "shuffle")


def how_to_compare(command: Command, baseline: LinearBaseline) -> str:
    """The command of the linear recipe beside this one, on the same rows; empty where there is none.

    Args:
        command: of the fit.
        baseline: what it was compared with.
    """
    name = "linear_regression" if baseline.kind == "ridge" else "logistic_regression"
    script = Path(command.script).with_name(f"{name}.py")
    if not script.is_file() or Path(command.script).stem == name:
        return ""
    flags = [*_of_data(command), *_of_loss(command, baseline), "--model.regularizers", "[l2]"]
    flags += ["--model.regularizers.coefficient", f"{baseline.coefficient:.3g}"]
    return f"; compare: python {printable(short_path(script))} fit {printable(shlex.join(flags))}"


def _of_data(command: Command) -> list[str]:
    """The table's settings that differ from their defaults."""
    settings, defaults = command.settings.plain()["data"], signature_of("data")
    flags: list[str] = []
    for name, value in settings.items():
        default = defaults[name].default
        if name not in _OF_MINIBATCHES and value != (list(default) if isinstance(default, tuple) else default):
            flags += [f"--data.{name}", _text(value)]
    return flags


def _of_loss(command: Command, baseline: LinearBaseline) -> list[str]:
    """The loss of classes, unless it is the recipe's own; ridge regression has the squared loss."""
    loss: Spec = command.settings.model["loss"]
    own = {name: parameter.default for name, parameter in signature(_class_of(loss)).parameters.items()}
    if any(own[name] != value for name, value in loss.parameters.items()):
        return ["--model.loss", _text(written("loss", loss))]
    return [] if baseline.kind == "ridge" or loss.name == "bce" else ["--model.loss", loss.name]


def _class_of(loss: Spec) -> Any:
    return registry().target(registry().find(Family.LOSS, loss.name))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
