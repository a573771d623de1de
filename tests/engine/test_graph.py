"""Functions as compiled graphs."""

import logging
import shutil
from contextlib import nullcontext

import pytest
import torch

from torchplug.engine.graph import Graph, layout
from torchplug.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("ignore")  # the compiler's own


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_graph_is_compiled_once_for_each_key(caplog):
    traced = []

    def function(a, b):
        traced.append(a.shape)
        return [a * 2 + b, a.sum()]

    graph = Graph(function, nullcontext)
    with caplog.at_level(logging.INFO, "torchplug"), torch.no_grad():
        for size in (3, 3, 2, 3):
            a, b = torch.randn(size, requires_grad=True), torch.randn(size)
            double, total = graph(size, f"{size} numbers", a, b)
            torch.testing.assert_close([double, total], [a * 2 + b, a.sum()])
            assert not double.requires_grad
    assert [tuple(shape) for shape in traced] == [(3,), (2,)]
    assert caplog.messages[0::2] == ["compiling 3 numbers", "compiling 2 numbers"]
    assert all(message.startswith("compiled") and message.endswith("s") for message in caplog.messages[1::2])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_who_looks_for_anomalies_does_not_stand_in_the_way():
    def function(a):
        return [torch.func.grad(lambda b: b.square().sum())(a)]

    with torch.autograd.set_detect_anomaly(True), torch.no_grad():
        (gradient,) = Graph(function, nullcontext)("key", "it", torch.ones(3))
    assert torch.equal(gradient, torch.full((3,), 2.0))


def branching(a):
    return [a if a.sum() > 0 else -a]


def wordless(a):
    raise NotImplementedError


@pytest.mark.parametrize(("function", "reason"), [(branching, "engine compiled: "), (wordless, "NotImplementedError")])
def test_what_cannot_be_compiled_is_refused(function, reason):
    graph = Graph(function, nullcontext)
    with pytest.raises(
        ConfigurationError, match=r"^engine compiled: .*; set the engine to analytic or autograd$"
    ) as caught:
        graph("key", "it", torch.ones(3))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layout_is_all_that_a_graph_hangs_on():
    a = torch.zeros(2, 3)
    others = [torch.zeros(3, 2), torch.zeros(3, 2).t(), torch.zeros(2, 3, dtype=torch.float64)]
    assert layout([a]) == layout([torch.ones(2, 3)])
    assert all(layout([a]) != layout([other]) for other in others)
