"""How many threads a step uses."""

import pytest
import torch
from torch import nn

from torchplug.training.threads import ThreadLimit, threads_of_steps


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


def test_on_other_devices_threads_are_left_alone():
    with threads_of_steps(nn.Linear(2, 1), 32, torch.device("meta")):
        assert torch.get_num_threads() == 3
    with threads_of_steps(nn.Linear(2, 1), 32, torch.device("cpu")):
        assert torch.get_num_threads() == 1
