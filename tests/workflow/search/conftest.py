"""Searches of this folder are quiet."""

import pytest

from compared_fits import quiet


@pytest.fixture(autouse=True)
def _quiet():
    with quiet():
        yield
