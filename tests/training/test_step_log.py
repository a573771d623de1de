"""When rows are due."""

import math
from types import SimpleNamespace

import pytest

from torchplug.training.step_log import StepLog


def log(every, done=0):
    return StepLog(SimpleNamespace(log_every_n_steps=every, global_step=done), SimpleNamespace())


def test_rows_are_due_at_multiples_of_the_interval():
    steps = log(3)
    assert [step for step in range(1, 10) if steps.begin(step)] == [3, 6, 9]
    assert (steps.step, steps.due) == (9, True)


@pytest.mark.parametrize(("every", "done", "expected"), [(5, 0, 5), (5, 3, 2), (5, 5, 5), (1, 7, 1)])
def test_steps_until_a_row(every, done, expected):
    assert log(every, done).until_row() == expected


def test_without_rows_none_is_due():
    steps = log(0)
    assert not steps.begin(50)
    assert steps.until_row() > 10**6
    assert not math.isinf(steps.until_row())
