"""How long a step takes by its sizes, and how many threads that is worth."""

import pytest
import torch
from torch import nn

from torchplug.execution.step_time import ThreadLimit, seconds_of_step, seconds_of_work


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_work_grows_with_rows_and_parameters():
    narrow, wide = nn.Linear(8, 1), nn.Linear(800, 100)
    assert seconds_of_work(narrow, 200) == pytest.approx(2 * seconds_of_work(narrow, 100))
    assert seconds_of_work(wide, 100) > 100 * seconds_of_work(narrow, 100)


def test_a_step_takes_time_without_any_work():
    assert seconds_of_step(nn.Linear(1, 1), 1) > 1000 * seconds_of_work(nn.Linear(1, 1), 1)


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
