"""Fits of this folder."""

import warnings

import pytest

from compared_fits import quiet


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        warnings.filterwarnings("ignore", "val: .* undefined on this split")  # of one class alone
        yield
