"""Signatures read and values checked."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
import torch

from torchplug import Factory, Family
from torchplug.registry.signatures import check_value, is_factory, plain, read_parameters, type_name

if TYPE_CHECKING:
    from nowhere import Unknown


class Colour(enum.Enum):
    RED = "red"


def target(
    first: float,
    second: int = 2,
    *rest: int,
    choice: Literal["a", "b"] = "a",
    tensor: torch.Tensor | None = None,
    number: float | torch.Tensor = 1.0,
    unknown: Unknown = 3,
    function: Callable[[float], float] = float,
    colour: Colour = Colour.RED,
    wrapped: Factory | None = None,
    widened: float = None,  # noqa: RUF013 - what is read is what people write
    untyped=4,
    **surplus: int,
) -> None:
    """A function with every kind of parameter."""


class Old:
    def __init__(self, params, lr: "float" = 0.1) -> None:  # noqa: UP037 - annotations as text
        pass


class Inherits(Old):
    pass


def test_signatures_are_read_with_types_and_defaults():
    read = read_parameters(target, Family.LOSS)
    assert {name: parameter.annotation for name, parameter in read.items()} == {
        "first": float,
        "second": int,
        "choice": Literal["a", "b"],
        "number": float,
        "colour": Colour,
        "wrapped": Factory | None,
        "widened": float | None,
        "untyped": Any,
    }
    assert read["first"].default is inspect.Parameter.empty
    assert read["second"].default == 2


def test_what_the_core_supplies_is_left_out():
    def model(inputs, outputs, bias: bool = True): ...
    def scheduler(optimizer, *, total_steps: int, steps_per_epoch: int, decay: float = 1.0): ...

    assert list(read_parameters(Inherits, Family.OPTIMIZER)) == ["lr"]
    assert list(read_parameters(model, Family.MODEL)) == ["bias"]
    assert list(read_parameters(scheduler, Family.SCHEDULER)) == ["decay"]
    assert list(read_parameters(torch.optim.SGD, Family.OPTIMIZER))[:2] == ["lr", "momentum"]


def test_a_decorated_targets_types_are_found_where_it_was_written():
    @functools.wraps(target)
    def decorated(*arguments, **keywords): ...

    assert read_parameters(decorated, Family.LOSS)["choice"].annotation == Literal["a", "b"]


def test_signatures_that_cannot_serve_are_refused():
    def without(lr: float): ...
    def opaque(tensor: torch.Tensor): ...

    with pytest.raises(ValueError, match="must begin with params, and begins with lr"):
        read_parameters(without, Family.OPTIMIZER)
    with pytest.raises(ValueError, match="must begin with inputs, outputs, and begins with lr"):
        read_parameters(without, Family.MODEL)
    with pytest.raises(
        ValueError, match="parameter tensor is required, and cannot be set by name: Tensor has no plain values"
    ):
        read_parameters(opaque, Family.LOSS)


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (float, 1, 1.0),
        (float, "1e-3", 1e-3),
        (float, np.float64(0.5), 0.5),
        (float, np.float32(0.5), 0.5),
        (float, torch.tensor(0.5), 0.5),
        (int, np.int64(3), 3),
        (bool, np.True_, True),
        (bool, False, False),
        (str, "x: 1", "x: 1"),
        (float | None, None, None),
        (Literal["a", "b"], "b", "b"),
        (int | Literal["auto"], "auto", "auto"),
        (tuple[float, float], [1, 2], (1.0, 2.0)),
        (tuple[int, ...], np.arange(3), (0, 1, 2)),
        (list[int], (1, 2), [1, 2]),
        (Sequence[float], (1, 2), [1.0, 2.0]),
        (dict[int, float], {1: 2}, {1: 2.0}),
        (dict[int, float], {"1": 2}, {1: 2.0}),
        (Mapping[str, float], {"a": 2}, {"a": 2.0}),
        (list, [1, "a"], [1, "a"]),
        (dict, {"a": 1}, {"a": 1}),
        (Any, {"a": (1, None)}, {"a": [1, None]}),
        (Any, None, None),
    ],
)
def test_values_that_fit_are_converted(annotation, value, expected):
    checked = check_value(annotation, value)
    assert checked == expected
    assert type(checked) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (float, True, "must be float, got True"),
        (float, "abc", "must be float, got 'abc'"),
        (float, None, "must be float, got None"),
        (float, [1.0], r"must be float, got \[1.0\]"),
        (int, 1.5, "must be int, got 1.5"),
        (int, False, "must be int, got False"),
        (bool, 2, "must be bool, got 2"),
        (str, 3, "must be str, got 3"),
        (Literal["a", "b"], "c", "must be one of 'a', 'b', got 'c'"),
        (tuple[float, float], [1, 2, 3], r"must be tuple\[float, float\], got"),
        (list[int] | None, [1.5], r"must be list\[int\] \| None, got"),
        (dict[int, float], {"a": 1}, r"must be dict\[int, float\], got"),
        (Any, print, "must be a plain value, got <built-in function print>"),
        (Any, {"a": [object]}, "must be a plain value, got <class 'object'>"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_one_line(annotation, value, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_value(annotation, value)
    assert "\n" not in str(caught.value)


def test_checking_leaves_the_users_containers_alone():
    given = {"a": 1, "b": [2]}
    checked = check_value(dict, given)
    checked["b"].append(3)
    assert given == {"a": 1, "b": [2]}
    check_value(dict[str, Any], given)
    assert type(given["a"]) is int


def test_plain_converts_arrays():
    assert plain({"a": np.ones((1, 2)), np.int64(1): torch.zeros(2)}) == {"a": [[1.0, 1.0]], 1: [0.0, 0.0]}


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (float, "float"),
        (float | None, "float | None"),
        (Literal["a", 1], "'a' | 1"),
        (tuple[float, ...], "tuple[float, ...]"),
        (Sequence[int], "sequence[int]"),
        (dict[str, list[int]], "dict[str, list[int]]"),
        (list, "list"),
        (Any, "any value"),
        (Factory, "component"),
        (Factory | None, "component | None"),
    ],
)
def test_types_are_named_as_people_write_them(annotation, text):
    assert type_name(annotation) == text


def test_factories_are_told_from_other_types():
    assert is_factory(Factory)
    assert is_factory(Factory | None)
    assert not is_factory(Callable[[int], Any])
    assert not is_factory(float | None)
