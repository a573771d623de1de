"""What a searched setting may be, as command lines and Python give it."""

import numpy as np
import pytest

from torchplug.errors import ConfigurationError
from torchplug.workflow.search.ranges import Choices, Range, read_grid, read_random


def test_values_of_a_list_are_divided_at_commas_outside_of_brackets():
    found = read_grid(["model.model.hidden=[32, 32],[64]", "model.optimizer.lr=1e-3,0.1"])
    assert {name: own.examples() for name, own in found.items()} == {
        "model.model.hidden": ["[32, 32]", "[64]"],
        "model.optimizer.lr": ["1e-3", "0.1"],
    }


def test_python_gives_plain_values():
    found = read_grid({"a.b": np.array([0.5, 2.0]), "c": [[32], [64, 64]], "d": [None, "cosine"]})
    assert [own.examples() for own in found.values()] == [[0.5, 2.0], [[32], [64, 64]], [None, "cosine"]]
    assert found["c"].restored(found["c"].stored([64, 64])) == [64, 64]


def test_ranges():
    found = read_random({"a": "log(1e-6, 1e-1)", "b": "uniform(-1,1)", "c": "int(2,5)", "d": "x,y"})
    assert found["a"] == Range("log", 1e-6, 0.1)
    assert found["b"] == Range("uniform", -1.0, 1.0)
    assert list(found["c"].values()) == [2, 3, 4, 5]
    assert isinstance(found["d"], Choices)


@pytest.mark.parametrize(
    ("grid", "random", "reason"),
    [
        (["a="], None, "--grid a: an empty list"),
        ({"a": []}, None, "--grid a: an empty list"),
        (["a=1,,2"], None, "an empty value"),
        (["a=1,2,1"], None, "--grid a: 1 occurs twice"),
        (["a=1", "a=2"], None, "--grid a is given twice"),
        (["a"], None, "--grid a: expected a setting with values"),
        (["=1"], None, "expected a setting with values"),
        ({"a": 3}, None, "--grid a: expected a list of values, got 3"),
        (["a=log(1,2)"], None, "--grid a: log(1,2) is a range, of which --random draws"),
        (None, ["a=log(2,1)"], "--random a: log(2,1) is reversed or empty"),
        (None, ["a=uniform(1,1)"], "is reversed or empty"),
        (None, ["a=log(0,1)"], "log(0,1) begins at 0, which has no logarithm"),
        (None, ["a=log(-1,1)"], "log(-1,1) begins at -1, which has no logarithm"),
        (None, ["a=uniform(x,1)"], "uniform(x,1) has not two numbers as ends"),
        (None, ["a=uniform(1)"], "has not two numbers as ends"),
        (None, ["a=uniform(0,inf)"], "has no finite ends"),
        (None, ["a=uniform(nan,1)"], "has no finite ends"),
        (None, ["a=int(1,2.5)"], "has ends that are no whole numbers"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(grid, random, reason):
    with pytest.raises(ConfigurationError) as caught:
        (read_grid(grid), read_random(random))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
