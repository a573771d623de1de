"""How many threads a step has, and what becomes of its memory."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from small_fits import trainer
from torchplug import ComponentModule, TabularData
from torchplug.execution import processor
from torchplug.execution.processor import KeptMemory, ThreadLimit

BIG = 2**30


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("seconds", "threads"), [(0.0, 1), (1e-4, 1), (4e-4, 2), (1.0, 3)])
def test_threads_by_work(seconds, threads):
    with ThreadLimit(seconds):
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3


def test_threads_come_back_after_an_error():
    with pytest.raises(KeyError), ThreadLimit(0.0):
        raise KeyError
    assert torch.get_num_threads() == 3


def test_a_limit_may_be_entered_again():
    limit = ThreadLimit(0.0)
    for _ in range(2):
        with limit:
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 3


@pytest.fixture
def told(monkeypatch):
    """What the C library is told, by the number of its parameter."""
    for name in processor._OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    told = []
    monkeypatch.setattr(processor, "_set_malloc", lambda parameter, value: told.append((parameter, value)) or True)
    monkeypatch.setattr(processor.sys, "platform", "linux")
    return told


def test_memory_is_kept_between_start_and_end(told):
    memory = KeptMemory()
    memory.start(BIG)
    assert told == [(-3, 2**30), (-1, -1)]
    memory.end()
    assert told[2:] == [(-3, 2**25), (-1, 2**26)]
    memory.end()
    assert len(told) == 4, "nothing is left to be done"


@pytest.mark.parametrize("why", ["small steps", "another system", *processor._OF_THE_USER])
def test_memory_is_left_alone(told, monkeypatch, why):
    if why == "another system":
        monkeypatch.setattr(processor.sys, "platform", "darwin")
    elif why != "small steps":
        monkeypatch.setenv(why, "1")
    memory = KeptMemory()
    memory.start(1000 if why == "small steps" else BIG)
    memory.end()
    assert told == []


def test_a_library_without_it_is_left_alone(monkeypatch):
    asked = []

    class Library:
        def __getattr__(self, name):
            asked.append(name)
            raise AttributeError(name)

    for name in processor._OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processor.sys, "platform", "linux")
    monkeypatch.setattr(processor.ctypes, "CDLL", lambda name: Library())
    memory = KeptMemory()
    memory.start(BIG)
    memory.end()
    assert asked == ["mallopt"], "what it does not have is not asked of it again"


def test_a_fit_of_large_batches_keeps_memory(told, tmp_path):
    rows = 200_000
    data = TabularData(
        (np.zeros((rows, 12), dtype="float32"), np.arange(float(rows))), split=[1, 0, 0], batch_size=rows
    )
    trainer(tmp_path, max_epochs=1).fit(ComponentModule("linear"), data)
    assert told == [(-3, 2**30), (-1, -1), (-3, 2**25), (-1, 2**26)]


CLEARED_PAGES = """
import resource, sys, torch
from torchplug.execution.processor import KeptMemory
memory = KeptMemory()
memory.start(int(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
memory.end()
"""
"""How many pages the system gives a process that fills 64 MiB, twenty times."""


@pytest.mark.skipif(not hasattr(processor.ctypes.CDLL(None), "mallopt"), reason="only the GNU C library has it")
def test_kept_memory_is_not_cleared_anew():
    given_back, kept = (
        int(subprocess.check_output([sys.executable, "-c", CLEARED_PAGES, str(step_bytes)])) for step_bytes in (0, BIG)
    )
    assert kept < given_back / 5
