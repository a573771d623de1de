"""Helpers beside these tests; tests of NIST's problems only where the problems are.

`nist(name)` marks a test of one problem, `nist` a test whose parameter `name` says which.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

MISSING = pytest.StashKey[set[str]]()


def pytest_collection_modifyitems(config, items):
    """Leave out what needs files that are not there; `test_nist_data.py` says so, in one line."""
    from nist_data import is_available

    needed = {item: _problem(item, marker) for item in items if (marker := item.get_closest_marker("nist"))}
    left_out = [item for item, name in needed.items() if not is_available(name)]
    config.stash[MISSING] = {needed[item] for item in left_out}
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _problem(item, marker):
    return marker.args[0] if marker.args else item.callspec.params["name"]


@pytest.fixture
def missing_problems(request):
    """The problems whose tests are left out."""
    return sorted(request.config.stash[MISSING])
