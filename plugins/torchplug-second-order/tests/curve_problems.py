"""Curves with known least-squares solutions, as networks of one input.

The problems are from NIST's Statistical Reference Datasets, nonlinear regression, with both starts and the certified
parameters; `Exact` has residuals of zero.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from torchplug.batch import Rows


class Curve(nn.Module):
    """A function of one input with p parameters, as a network."""

    def __init__(self, function, start):
        super().__init__()
        self.function = function
        self.b = nn.Parameter(torch.from_numpy(start))

    def forward(self, x):
        return self.function(self.b, x[:, :1])


class Table:
    def __init__(self, x, y):
        self.rows = Rows(x, y, torch.ones(len(x), dtype=torch.float64))
        self.samples = len(x)

    def read(self, start, stop):
        return Rows(*(part[start:stop] for part in self.rows))


class Problem(NamedTuple):
    function: object
    x: np.ndarray
    y: np.ndarray
    starts: tuple
    solution: np.ndarray


def _lanczos(b, x):
    return b[0] * torch.exp(-b[1] * x) + b[2] * torch.exp(-b[3] * x) + b[4] * torch.exp(-b[5] * x)


def _decay(b, x):
    return b[0] * torch.exp(-b[1] * x) + b[2]


_X = 0.05 * np.arange(24)
_SUM = 0.0951 * np.exp(-_X) + 0.8607 * np.exp(-3 * _X) + 1.5576 * np.exp(-5 * _X)
_LANCZOS = ([1.2, 0.3, 5.6, 5.5, 6.5, 7.6], [0.5, 0.7, 3.6, 4.2, 4.0, 6.3])

PROBLEMS = {
    "MGH09": Problem(
        lambda b, x: b[0] * (x**2 + x * b[1]) / (x**2 + x * b[2] + b[3]),
        np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625]),
        np.array([0.1957, 0.1947, 0.1735, 0.16, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246]),
        ([25, 39, 41.5, 39], [0.25, 0.39, 0.415, 0.39]),
        np.array([1.9280693458e-01, 1.9128232873e-01, 1.2305650693e-01, 1.3606233068e-01]),
    ),
    "Rat42": Problem(
        lambda b, x: b[0] / (1 + torch.exp(b[1] - b[2] * x)),
        np.array([9.0, 14, 21, 28, 42, 57, 63, 70, 79]),
        np.array([8.93, 10.8, 18.59, 22.33, 39.35, 56.11, 61.73, 64.62, 67.08]),
        ([100, 1, 0.1], [75, 2.5, 0.07]),
        np.array([7.2462237576e01, 2.6180768402e00, 6.7359200066e-02]),
    ),
    "Rat43": Problem(
        lambda b, x: b[0] / (1 + torch.exp(b[1] - b[2] * x)) ** (1 / b[3]),
        np.arange(1.0, 16.0),
        np.array(
            [
                "16.08",
                "33.83",
                "65.8",
                "97.2",
                "191.55",
                "326.2",
                "386.87",
                "520.53",
                "590.03",
                "651.92",
                "724.93",
                "699.56",
                "689.96",
                "637.56",
                "717.41",
            ],
            dtype=float,
        ),
        ([100, 10, 1, 1], [700, 5, 0.75, 1.3]),
        np.array([6.9964151270e02, 5.2771253025e00, 7.5962938329e-01, 1.2792483859e00]),
    ),
    "Lanczos1": Problem(_lanczos, _X, _SUM.round(13), _LANCZOS, np.array([0.0951, 1, 0.8607, 3, 1.5576, 5])),
    "Lanczos2": Problem(
        _lanczos,
        _X,
        np.array([float(f"{value:.5e}") for value in _SUM]),
        _LANCZOS,
        np.array(
            [9.6251029939e-02, 1.0057332849e00, 8.6424689056e-01, 3.0078283915e00, 1.5529016879e00, 5.0028798100e00]
        ),
    ),
    "Lanczos3": Problem(
        _lanczos,
        _X,
        _SUM.round(4),
        _LANCZOS,
        np.array(
            [8.6816414977e-02, 9.5498101505e-01, 8.4400777463e-01, 2.9515951832e00, 1.5825685901e00, 4.9863565084e00]
        ),
    ),
    "Exact": Problem(
        _decay, _X, 2 * np.exp(-3 * _X) + 0.5, ([1.0, 1.0, 1.0], [1.8, 2.5, 0.4]), np.array([2.0, 3.0, 0.5])
    ),
}
