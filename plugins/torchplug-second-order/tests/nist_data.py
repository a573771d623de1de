"""Problems of NIST's Statistical Reference Datasets.

SciPy ships Norris and statsmodels Longley, both with the certified values, and Wampler's follow from a formula. The
files of the others are beside the project, in `shared/data/nist`: see `conftest.py` for where they are not.
"""

import re
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from statsmodels.datasets import longley
from statsmodels.regression.tests.results.results_regression import Longley

FOLDERS = [parent / "shared/data/nist" for parent in Path(__file__).resolve().parents]
FOLDERS.append(resources.files("scipy") / "stats/tests/data/nist_linregress")
POWERS = {"Norris": [1], "Pontius": [1, 2], "Filip": range(1, 11)}

NONLINEAR = {
    "Misra1a": lambda b, x: b[0] * (1 - torch.exp(-b[1] * x)),
    "Chwirut2": lambda b, x: torch.exp(-b[0] * x) / (b[1] + b[2] * x),
    "DanWood": lambda b, x: b[0] * x ** b[1],
    "Thurber": lambda b, x: (b[0] + b[1] * x + b[2] * x**2 + b[3] * x**3) / (1 + b[4] * x + b[5] * x**2 + b[6] * x**3),
    "MGH10": lambda b, x: b[0] * torch.exp(b[1] / (x + b[2])),
    "BoxBOD": lambda b, x: b[0] * (1 - torch.exp(-b[1] * x)),
}


class Problem(NamedTuple):
    """A design without its column of ones, a target, and what is certified: (estimate, deviation) rows, σ, R²."""

    X: np.ndarray
    y: np.ndarray
    certified: np.ndarray
    deviation: float
    r_squared: float


def file_of(name):
    """NIST's file of a problem; None where there is none."""
    return next((folder / f"{name}.dat" for folder in FOLDERS if (folder / f"{name}.dat").is_file()), None)


def is_available(name):
    """Whether a problem can be had."""
    return name == "Longley" or name.startswith("Wampler") or file_of(name) is not None


def _head_and_table(name):
    """What a file certifies, as text, and its data."""
    text = file_of(name).read_text()
    head, data = text[: text.rindex("Data:")], text[text.rindex("Data:") :].splitlines()[1:]
    return head, np.array([line.split() for line in data if line.strip()], dtype=np.float64)


def linear_problem(name):
    """A linear problem."""
    if name == "Longley":
        return _longley()
    if name.startswith("Wampler"):
        return _wampler(int(name[-1]))
    head, table = _head_and_table(name)
    X = table[:, 1:] ** np.array(POWERS[name])
    certified = np.array(re.findall(r"^\s*B\d+\s+(-?\d\S*)\s+(\d\S*)\s*$", head, re.M), dtype=np.float64)
    deviation = float(re.search(r"Standard Deviation\s+(\d\S*)", head[head.index("Residual") :])[1])
    r_squared = float(re.search(r"R-Squared\s+(\d\S*)", head)[1])
    return Problem(X, table[:, 0], certified, deviation, r_squared)


def nonlinear_problem(name, start=2):
    """Table, first or second start, certified parameters and their deviations."""
    head, table = _head_and_table(name)
    found = re.findall(r"^\s*b\d+\s*=\s*(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s*$", head, re.M)
    parameters = np.array(found, dtype=np.float64)
    y, x = table.T
    x, y = (torch.from_numpy(column[:, None].copy()) for column in (x, y))
    return x, y, parameters[:, start - 1], *parameters[:, 2:].T


def _longley():
    table, certified = longley.load_pandas(), Longley()  # which has the intercept last
    values = np.roll(np.column_stack([certified.params, certified.bse]), 1, axis=0)
    return Problem(
        table.exog.to_numpy(float), table.endog.to_numpy(float), values, certified.scale**0.5, certified.rsquared
    )


def _wampler(number):
    """Wampler1 and Wampler2: a polynomial of degree 5 at 0…20, with coefficients 1 or 0.1^i."""
    x = np.arange(21)
    coefficients = np.ones(6) if number == 1 else 0.1 ** np.arange(6)
    # in whole numbers, rounded once
    total = sum((x**i) * 10 ** (0 if number == 1 else 5 - i) for i in range(6))
    y = total / (1 if number == 1 else 10**5)
    certified = np.column_stack([coefficients, np.zeros(6)])
    return Problem(x[:, None].astype(float) ** np.arange(1, 6), y, certified, 0.0, 1.0)


def digits(found, certified):
    """The least number of correct significant digits."""
    with np.errstate(divide="ignore"):
        return float(-np.log10(np.abs(found - certified) / np.abs(certified)).max())
