"""Text as command lines and files write it, read for a type."""

from typing import Any, Literal, Union

import pytest

from torchplug.bounded_yaml import UnboundedError
from torchplug.registry.value_types import convert

FLOAT_OR_INT = Union[float, int]  # noqa: UP007 - Python takes it for `int | float` from now on


@pytest.mark.parametrize(
    ("annotation", "text", "expected"),
    [
        (int, "3.0", 3),
        (int, "1e3", 1000),
        (int | float, "3", 3),
        (int | float, "3.0", 3.0),
        (FLOAT_OR_INT, "3", 3),
        (float, "1e-3", 1e-3),
        (float, "-.inf", float("-inf")),
        (bool, "False", False),
        (bool, "yes", True),
        (int | bool, True, True),
        (int | str, "3", 3),
        (int | str, "3 rows", "3 rows"),
        (list[str] | str, "[x, y]", ["x", "y"]),
        (list[str] | str, "x, y", "x, y"),
        (list[str] | str, "[x", "[x"),
        (list[float], "[1e-3, 2]", [1e-3, 2.0]),
        (list[str | int], '["a", 1]', ["a", 1]),
        (dict[int, float], "{0: 0.1, 5: 1e-2}", {0: 0.1, 5: 0.01}),
        (Literal["auto", 64], "64", 64),
        (list[str], "[2020-01-01]", ["2020-01-01"]),
        (Any, "[1]", "[1]"),
    ],
)
def test_text(annotation, text, expected):
    value = convert(annotation, text)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "3.5"),
        (int, "1e300"),
        (int | None, "many"),
        (bool, "1"),
        (bool, 1),
        (float, "1" * 400),
        (float, "0x1"),
        (list[int], "3"),
        (tuple[int, int], "[1]"),
        (Literal[1], True),
        (str, 3),
    ],
)
def test_what_does_not_fit(annotation, value):
    with pytest.raises(ValueError):  # noqa: PT011 - callers say what was expected
        convert(annotation, value)


def test_text_is_bounded():
    with pytest.raises(UnboundedError, match="100 levels"):
        convert(list[str], "[" * 50_000)
