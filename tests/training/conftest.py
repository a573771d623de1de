"""Fixtures of tests that fit."""

import pytest
import torch

import compared_fits


@pytest.fixture(autouse=True)
def small():
    """Fits are small: one thread is faster than two, and Lightning's remarks on small ones are left out."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with compared_fits.quiet():
        yield
    torch.set_num_threads(threads)
