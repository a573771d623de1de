"""NIST's problems as they are read."""

import numpy as np
import pytest
from nist_data import is_available, linear_problem


def test_every_problem_is_there(missing_problems):
    if missing_problems:
        pytest.skip(
            f"tests of NIST's {', '.join(missing_problems)} are left out: put their .dat into ../shared/data/nist"
        )


@pytest.mark.parametrize("name", ["Norris", "Longley", "Wampler1", "Wampler2"])
def test_problems_that_packages_ship_are_certified(name):
    if not is_available(name):
        pytest.skip("this build of SciPy is without its tests")
    problem = linear_problem(name)
    X = np.column_stack([np.ones(len(problem.X)), problem.X])
    # in columns of equal size, so that NumPy loses no digits to the units
    scale = np.abs(X).max(axis=0)
    found = np.linalg.lstsq(X / scale, problem.y, rcond=None)[0] / scale
    np.testing.assert_allclose(found, problem.certified[:, 0], rtol=1e-6)
    rest = problem.y - X @ problem.certified[:, 0]
    deviation = np.sqrt(rest @ rest / (len(X) - X.shape[1]))
    assert deviation == pytest.approx(problem.deviation, rel=1e-6, abs=1e-4)
