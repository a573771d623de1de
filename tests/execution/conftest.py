"""Fixtures of tests that fit."""

import pytest

import compared_fits


@pytest.fixture(autouse=True)
def quiet():
    """Without Lightning's remarks on what small fits do on purpose."""
    with compared_fits.quiet():
        yield
