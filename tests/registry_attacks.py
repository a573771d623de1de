"""Hostile distributions: what tests of discovery, descriptions and fits install."""

from __future__ import annotations

HEAD = "from torchplug import Capability, Component, Metric, hookimpl\n"


def offering(*records: str) -> str:
    """The module of a plugin whose hook returns these."""
    return f"{HEAD}@hookimpl\ndef torchplug_losses():\n    return [{', '.join(records)}]\n"


def returning(value: str) -> str:
    """The module of a plugin whose hook returns a value."""
    return f"{HEAD}@hookimpl\ndef torchplug_losses():\n    return {value}\n"


def loss(signature: str = "a: float = 1.0", docstring: str | None = "A loss.", result: str = ".sum(1)") -> str:
    """The module of a loss with a constructor's signature."""
    text = "" if docstring is None else f"    {docstring!r}\n"
    return f"""
import datetime, enum, math, torch
from dataclasses import dataclass
from pathlib import Path
from typing import *
from torchplug import Factory, Loss

class Color(enum.Enum):
    RED = 1
    BLUE = 2

@dataclass(frozen=True)
class DC:
    x: int = 1

class TD(TypedDict):
    x: int

class X(Loss):
{text}    kind = "regression"

    def __init__(self, {signature}):
        super().__init__()

    def forward(self, scores, target):
        return (scores - target).square(){result}
"""


ATTACK = 'Component("attack", "attack_t:X", "a loss")'
GOOD = offering(ATTACK)

# name: (the plugin's module, words of the line that `torchplug list` prints, whether it loads nevertheless)
DISCOVERED = {
    "wrong_hook": (
        f"{HEAD}@hookimpl\ndef torchplug_loss():\n    return []\n",
        "there is no hook torchplug_loss: did you",
    ),
    "unmarked": ("def torchplug_losses():\n    return []\n", "torchplug_losses is not marked with @torchplug.hookimpl"),
    "dup_in_hook": (offering(ATTACK, ATTACK), "torchplug_losses returned attack twice"),
    "raises": ('raise RuntimeError("boom at\\nimport")', "import of attack failed: RuntimeError: boom at import"),
    "exits": ("import sys; sys.exit(3)", "import of attack failed: SystemExit: 3"),
    "osexit": ("import os; os._exit(3)", "import of attack failed: SystemExit: os._exit(3) ends the process"),
    "kbd": ("raise KeyboardInterrupt", "import of attack failed: KeyboardInterrupt"),
    "types0": (returning("None"), "torchplug_losses returned None, not a list of Component"),
    "types1": (returning("5"), "torchplug_losses failed: TypeError: 'int' object is not iterable"),
    "types2": (returning('["a"]'), "torchplug_losses returned 'a', which is no torchplug.Component"),
    "types3": (returning('{"a": 1}'), "torchplug_losses returned 'a', which is no torchplug.Component"),
    "types5": (offering('Component("A B", "x:y", "x")'), "returned the name 'A B': use lower-case letters"),
    "types6": (offering('Component("a", "nope", "x")'), "a with the target 'nope', which is no package.module:Class"),
    "types7": (offering('Component("a", "x:y", "")'), "a with a summary that is not one line"),
    "types8": (offering('Component("a", "x:y", "s", [Capability.PROX])'), "a with capabilities that are no frozenset"),
    "types9": (offering('Component("a", "x:y", "s", {"prox"})'), "a with capabilities that are no frozenset"),
    "types10": (offering('Component("größe", "x:y", "s")'), "returned the name 'größe': use lower-case letters"),
    "types11": (offering('Component("a")'), "Component.__init__() missing 2 required positional arguments"),
    "ep_missing": (None, "import of attack failed: ModuleNotFoundError: No module named 'attack'"),
}

# name: (the constructor's signature, what `torchplug describe` prints; it begins with `error` where it is refused)
SIGNATURES = {
    "varargs": ("*args", "A loss.\n"),
    "varkw": ("**kwargs", "A loss.\n"),
    "both": ("a: float = 1.0, *args, b: int = 2, **kwargs", "a: float = 1.0\n    b: int = 2"),
    "posonly": ("a: float = 1.0, /, b: int = 2", "a: float = 1.0\n    b: int = 2"),
    "posonly_req": ("a: float, /", "a: float, required"),
    "literal": ('a: Literal["x", "y"] = "x"', "a: 'x' | 'y' = 'x'"),
    "enum": ("a: Color = Color.RED", "a: RED | BLUE = 'RED'"),
    "path": ('a: Path = Path("data")', "a: path = 'data'"),
    "dataclass": ("a: DC = DC()", "a: DC = DC(x=1)\n        Not settable by name: DC has no plain values."),
    "callable": (
        "a: Callable[[float], float] = math.sqrt",
        "Not settable by name: callable[[float], float] has no plain",
    ),
    "callable_req": (
        "a: Callable[[float], float]",
        "error: its parameter a is required, and cannot be set by name: call",
    ),
    "nested": ("inner: Factory", "inner: loss, required"),
    "optional": ("a: Optional[int] = None", "a: int | None = None"),
    "union": ('a: Union[int, str, None] = "auto"', "a: int | str | None = 'auto'"),
    "intstr": ("a: int | float | str = 1", "a: int | float | str = 1"),
    "unpicklable": ("a=lambda x: x", "Not settable by name: its default <function X.<lambda>> is no plain value."),
    "mutable": ("a: list[int] = [1, 2]", "a: list[int] = [1, 2]"),
    "dictd": ("a: dict[str, float] = {'x': 1.0}", "a: dict[str, float] = {'x': 1.0}"),
    "kwparams": ("params: float = 1.0", "params: float = 1.0"),
    "kwhelp": ("help: float = 1.0", "help: float = 1.0"),
    "kwconfig": ("config: str = 'c'", "config: str = 'c'"),
    "kwclass_path": ("class_path: str = 'c'", "class_path: str = 'c'"),
    "kwinit_args": ("init_args: dict = {}", "init_args: dict = {}"),
    "kwname": ("name: str = 'n'", "name: str = 'n'"),
    "kwparameters": ("parameters: dict = {}", "parameters: dict = {}"),
    "kwloss": ("loss: float = 1.0", "loss: float = 1.0"),
    "kwself_": ("dict_kwargs: float = 2.0", "dict_kwargs: float = 2.0"),
    "untyped": ("a, b=1, c=None", "a: any value, required\n    b: any value = 1\n    c: any value = None"),
    "noneint": ("a: int = None", "a: int | None = None"),
    "strann": ("a: 'float' = 1.0", "a: float = 1.0"),
    "badann": ("a: 'NoSuchType' = 1.0", "Not settable by name: its annotation 'NoSuchType' cannot be resolved"),
    "badann_req": ("a: 'NoSuchType'", "error: its parameter a is required, and cannot be set by name: its annotation"),
    "unicode": ("größe: float = 1.0", "größe: float = 1.0"),
    "underscore": ("_a: float = 1.0", "_a: float = 1.0"),
    "kwhash": ("a_b: float = 1.0, aB: float = 2.0", "a_b: float = 1.0\n    aB: float = 2.0"),
    "nan": ("a: float = float('nan')", "a: float = nan"),
    "inf": ("a: float = float('inf')", "a: float = inf"),
    "tuplevar": ("a: tuple[float, ...] = (1.0, 2.0)", "a: tuple[float, ...] = [1.0, 2.0]"),
    "nestedlist": ("a: list[tuple[int, str]] = [(1, 'x')]", "a: list[tuple[int, str]] = [[1, 'x']]"),
    "boolflag": ("flag: bool = True", "flag: bool = True"),
    "wrongdef": ("a: int = 'text'", "a: int | 'text' = 'text'"),
    "tensor": ("a: torch.Tensor = torch.ones(3)", "Not settable by name: Tensor has no plain values."),
    "dtype": ("a: torch.dtype = torch.float32", "Not settable by name: dtype has no plain values."),
    "complexd": ("a: complex = 1j", "Not settable by name: complex has no plain values."),
    "bytesd": ("a: bytes = b'x'", "Not settable by name: bytes has no plain values."),
    "setd": ("a: set[int] = {1}", "Not settable by name: set[int] has no plain values."),
    "newtype": ("a: Annotated[float, 'pos'] = 1.0", "a: float = 1.0"),
    "typeddict": ("a: TD = {'x': 1}", "a: dict[str, any value] = {'x': 1}"),
    "anyd": ("a: Any = object()", "Not settable by name: its default <object object> is no plain value."),
    "date": ("a: datetime.date = datetime.date(2020,1,1)", "Not settable by name: date has no plain values."),
}

# name: (docstring, what `torchplug describe` prints)
DOCSTRINGS = {
    "doc_none": (None, "Parameters:\n    a: float = 1.0\n"),
    "doc_long": (f"A loss.\n\n    Args:\n        a: {'word ' * 20000}", " [\u2026] "),
    "doc_numpy": (
        "A loss.\n\n    Parameters\n    ----------\n    a : float\n        the thing (100%, %s {y})\n",
        "(100%, %s {y})",
    ),
    "doc_rest": ("A loss.\n\n    :param a: the thing\n    :type a: float\n", "a: float = 1.0\n        the thing"),
    "doc_percent": (
        "A loss 50%.\n\n    Args:\n        a: 100% of it, %s %(x)s {y} %d\n",
        "100% of it, %s %(x)s {y} %d",
    ),
}

# name: (the target's module, words of the line that `describe` refuses it with; None: what `fit` refuses it with)
TARGETS = {
    "target_missing": (None, "attack_t:X cannot be imported: ModuleNotFoundError: No module named 'attack_t'", None),
    "target_raises": ("raise RuntimeError('boom in target')", "cannot be imported: RuntimeError: boom in target", None),
    "target_notloss": (
        "import torch\nclass X(torch.nn.MSELoss): pass",
        None,
        "must subclass torchplug.Loss, and gives a X",
    ),
    "target_wrongkind": (
        loss().replace('"regression"', '"regresion"'),
        None,
        "must have a kind of regression, count, margin, binary, multiclass, and has 'regresion'",
    ),
    "fwd_scalar": (loss(result=".mean()"), None, "attack"),
    "fwd_matrix": (loss(result=""), None, "attack"),
    "fwd_detached": (loss(result=".sum(1).detach()"), None, "attack"),
    "no_super": (
        loss().replace("super().__init__()", "pass"),
        None,
        "its constructor does not call super().__init__()",
    ),
}
