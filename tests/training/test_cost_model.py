"""What a step does, by its sizes."""

import pytest
from torch import nn

from torchplug.training.cost_model import bytes_of_step, seconds_of_step, seconds_of_work


def test_work_grows_with_rows_and_parameters():
    narrow, wide = nn.Linear(8, 1), nn.Linear(800, 100)
    assert seconds_of_work(narrow, 200) == pytest.approx(2 * seconds_of_work(narrow, 100))
    assert seconds_of_work(wide, 100) > 100 * seconds_of_work(narrow, 100)


def test_a_step_takes_time_without_any_work():
    assert seconds_of_step(nn.Linear(1, 1), 1) > 1000 * seconds_of_work(nn.Linear(1, 1), 1)


def test_bytes_are_those_that_maps_read_and_write():
    assert bytes_of_step(nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 1)), 10) == 4 * 10 * (8 + 3 + 3 + 1)
