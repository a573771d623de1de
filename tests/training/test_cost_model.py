"""What a step does, by its sizes."""

import pytest
from torch import nn

from torchplug.training.cost_model import bytes_of_step, compiling_pays, seconds_of_step, seconds_of_work


def test_work_grows_with_rows_and_parameters():
    narrow, wide = nn.Linear(8, 1), nn.Linear(800, 100)
    assert seconds_of_work(narrow, 200) == pytest.approx(2 * seconds_of_work(narrow, 100))
    assert seconds_of_work(wide, 100) > 100 * seconds_of_work(narrow, 100)


def test_a_step_takes_time_without_any_work():
    assert seconds_of_step(nn.Linear(1, 1), 1) > 1000 * seconds_of_work(nn.Linear(1, 1), 1)


def test_bytes_are_those_that_maps_read_and_write():
    assert bytes_of_step(nn.Sequential(nn.Linear(8, 3), nn.ReLU(), nn.Linear(3, 1)), 10) == 4 * 10 * (8 + 3 + 3 + 1)


def test_compiling_pays_in_long_fits_of_small_steps_alone():
    linear, deep = nn.Linear(8, 1), nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    assert compiling_pays(linear, 32, 10_000_000)
    assert not compiling_pays(linear, 32, 1_000_000)
    assert compiling_pays(deep, 32, 4_000_000)
    assert not compiling_pays(linear, 100_000, 10_000_000)  # arithmetic dominates
    assert not compiling_pays(linear, 32, None)
